"""A backbone moves from any task into any other, through checkpoints that runs wrote."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from backbones.weights import to_axes
from foundation.structures import Spec
from resmet.assembly import assemble_data, assemble_task, build
from resmet.engine.fit import start, train
from tasks.base import Task

CONF = Path(__file__).parents[2] / "conf"
SMALL_HEADS = ("task.head.width=32", "task.head.hidden=32", "task.head.sampled=16", "task.head.proposals=30")
JOINT = tuple(word.replace("task.", "task.tasks.shapes.") for word in SMALL_HEADS)
COUNTS = ("data.parts.shapes.count=10", "data.parts.regions.count=10", "data.parts.shapes.size=48")
TASKS = {
    "classification": ("task=classification",),
    "multilabel": ("task=classification", "data=multilabel", "data.count=10", "data.size=48"),
    "detection": ("task=detection", "data.count=10", "data.size=64", *SMALL_HEADS),
    "segmentation": ("task=segmentation", "data.count=10", "data.size=48", "task.head.widths=[16,16,16,16,16]"),
    "audio": ("task=audio", "data.count=10", "data.batch_size=4"),
    "joint": ("task=joint", *COUNTS, *JOINT, "task.tasks.regions.head.widths=[16,16,16,16,16]"),
}
SOURCES = {name: words for name, words in TASKS.items() if name != "multilabel"}
SOURCES["averaged"] = (*TASKS["segmentation"], "recipe.ema=0.9", "recipe=gradual")
NETS = {"resnet": ("backbone.width=8",), "timm": ("backbone=timm", "backbone.name=resnet10t")}


def config(words: tuple[str, ...], net: str = "resnet", weights: object = "none") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*words, *NETS[net], "trainer=cpu", "trainer.limit=1", f"backbone.weights={weights}"])


def assemble(cfg: DictConfig) -> tuple[Task, object]:
    start(0)
    data = assemble_data(cfg)
    data.prepare()
    return assemble_task(cfg, data.spec), data


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one step of every task, and of two backbones, leaves behind."""
    found = {}
    for name, words in {**SOURCES, "timm": TASKS["segmentation"]}.items():
        folder = tmp_path_factory.mktemp(name)
        cfg = config((*words, "trainer.max_epochs=1"), "timm" if name == "timm" else "resnet")
        task, data = assemble(cfg)
        train(task, data, folder, lambda: None, build(cfg.trainer), [], None, seed=0, resume=False)
        found[name] = folder / "checkpoints" / "best.ckpt"
    return found


def backbone_in(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("target", TASKS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_pair(checkpoints: dict[str, Path], source: str, target: str) -> None:
    task, data = assemble(config(TASKS[target], weights=checkpoints[source]))
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
    assert not match.missing
    assert not match.reshaped
    assert f"{match.total} of {match.total} backbone tensors matched" in str(match)
    own, old = task.backbone.state_dict(), backbone_in(checkpoints[source])
    for name, value in own.items():
        moved = to_axes(old[name], task.spec.ndim) if old[name].ndim > 2 else old[name]
        if name != "conv1.weight":  # the first kernel's channels follow the data
            assert torch.equal(value, moved), name
    batch = next(iter(data.loader("train")))
    batch = batch[0] if isinstance(batch, tuple) else batch
    assert all(torch.isfinite(value) for value in task.losses(task.encode(batch), batch).values())


@pytest.mark.parametrize("source", SOURCES)
def test_into_three_axes(checkpoints: dict[str, Path], source: str) -> None:
    spec = Spec(3, 3, ("a", "b"))
    task = assemble_task(config(TASKS["classification"], weights=checkpoints[source]), spec)
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
    assert task.backbone.eval()(torch.randn(1, 3, 8, 32, 32))[32].isfinite().all()


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_another_backbone_moves_too(checkpoints: dict[str, Path], kind: str) -> None:
    task, _ = assemble(config(TASKS[kind], "timm", checkpoints["timm"]))
    match = task.backbone.match
    assert match is not None
    assert match.matched == match.total
