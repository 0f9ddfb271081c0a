"""Compiled tasks have the losses and the state-dict names of tasks that are not compiled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor

from backbones.resnet import ResNet
from datamodules.synthetic import Digits, Scenes, Tones
from resmet.engine.trainer import TrainerConfig, check_compiler
from tasks.audio import Audio
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.segmentation import Segmentation

KINDS = {
    "classification": (Classification, Digits, 2),
    "detection": (Detection, lambda: Scenes(target="boxes", count=20), 2),
    "segmentation": (Segmentation, lambda: Scenes(target="mask", count=20), 2),
    "audio": (Audio, lambda: Tones(count=20), 2),
}


# torch 2.15 looks for a gradient on every tensor that it traces, and hides its own warning only where none is an error (2026-11).
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_task_has_the_same_losses(kind: str) -> None:
    """The backend runs graphs unchanged: the test is that backbone and head are graphs."""
    make, drawn, parts = KINDS[kind]
    graphs: list[Any] = []

    def backend(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    data = drawn()
    data.setup("fit")
    task = make(ResNet(18, width=8, ndim=data.spec.ndim, in_channels=data.spec.channels), data.spec).train()
    batch = next(iter(data.dataloader("train")))
    names = list(task.state_dict())

    def losses() -> dict[str, Tensor]:
        torch.manual_seed(0)
        return {name: value.detach() for name, value in task.losses(task.encode(batch), batch).items()}

    before = losses()
    torch.compiler.reset()
    task.compile_parts(backend)
    after = losses()
    torch.compiler.reset()
    assert len(graphs) >= parts
    assert list(task.state_dict()) == names
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


def test_compile_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with refused("trainer.no_compiler"):
        check_compiler(TrainerConfig(1, "cpu", 1))
