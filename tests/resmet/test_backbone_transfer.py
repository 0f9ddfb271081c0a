"""Backbone weights transfer from any task to any other, through checkpoints of runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig
from small_runs import OVERRIDES, compose_small, run_train

from backbones.weights import to_axes
from foundation.structures import Spec
from resmet.assembly import assemble_data, assemble_task
from tasks.base import Task

pytestmark = pytest.mark.slow

TASKS = [*OVERRIDES]
SOURCES = [*(name for name in TASKS if name != "multilabel"), "averaged"]
NETS = {"resnet": ("backbone.width=8",), "timm": ("backbone=timm", "backbone.name=resnet10t")}


def config(kind: str, net: str = "resnet", weights: object = "none") -> DictConfig:
    return compose_small(*OVERRIDES[kind], *NETS[net], f"backbone.weights={weights}")


def assemble(cfg: DictConfig) -> tuple[Task, object]:
    seed_everything(0, verbose=False)
    data = assemble_data(cfg)
    data.setup("fit")
    return assemble_task(cfg, data.spec), data


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, finished_run: Callable[[str], Path]) -> dict[str, Path]:
    """The best weights of a run of every task, of averaged weights, and of another backbone."""
    runs = {name: finished_run(name) for name in SOURCES if name != "averaged"}
    folder = tmp_path_factory.mktemp("runs")
    for name, words in (("averaged", (*NETS["resnet"], "recipe.ema=0.9", "recipe=gradual")), ("timm", NETS["timm"])):
        runs[name] = folder / name
        run_train(*OVERRIDES["segmentation"], *words, f"run_dir={runs[name]}")
    return {name: folder / "checkpoints" / "best.ckpt" for name, folder in runs.items()}


def backbone_in(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("target", TASKS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_backbone_transfers_between_every_pair_of_tasks(
    checkpoints: dict[str, Path], source: str, target: str
) -> None:
    task, data = assemble(config(target, weights=checkpoints[source]))
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
    assert not match.missing
    assert not match.mismatched
    assert f"{match.total} of {match.total} backbone tensors matched" in str(match)
    own, old = task.backbone.state_dict(), backbone_in(checkpoints[source])
    for name, value in own.items():
        moved = to_axes(old[name], task.spec.ndim) if old[name].ndim > 2 else old[name]
        if name != "conv1.weight":  # the first kernel's channels follow the data
            assert torch.equal(value, moved), name
    batch = next(iter(data.dataloader("train")))
    batch = batch[0] if isinstance(batch, tuple) else batch
    assert all(torch.isfinite(value) for value in task.losses(task.encode(batch), batch).values())


@pytest.mark.parametrize("source", SOURCES)
def test_a_backbone_transfers_to_three_axes(checkpoints: dict[str, Path], source: str) -> None:
    spec = Spec(3, 3, ("a", "b"))
    task = assemble_task(config("classification", weights=checkpoints[source]), spec)
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
    assert task.backbone.eval()(torch.randn(1, 3, 8, 32, 32))[32].isfinite().all()


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_another_backbone_transfers_too(checkpoints: dict[str, Path], kind: str) -> None:
    task, _ = assemble(config(kind, "timm", checkpoints["timm"]))
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
