"""Row ``layout.audio``: does sound go faster as a picture of height 1 whose channels lie last?"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from benchmarks.pieces import ours, step, timed
from benchmarks.rounds import Result, Settings
from foundation.structures import Spec


def audio(settings: Settings) -> Result:
    """ResNet-18 over 32 clips of 8,000 samples, forward and backward, against the same net of Conv1d, BatchNorm1d and MaxPool1d."""
    task = ours(("task=audio",), Spec(1, 1, tuple("abcdefghij")))
    plain = deepcopy(task.backbone)
    with_one_axis(plain)
    sound = torch.randn(settings.few(4, 32), 1, 8000)
    deepest = task.head.stride
    return timed(
        step(lambda: task.backbone(sound)[deepest].float().square().mean(), task.backbone),
        step(lambda: plain.features(sound)[deepest].float().square().mean(), plain),
        settings,
    )


def with_one_axis(module: nn.Module) -> None:
    """Put torch's own one-axis layers in the place of ours."""
    for name, child in module.named_children():
        if made := one_axis(child):
            setattr(module, name, made)
        else:
            with_one_axis(child)


def one_axis(layer: Any) -> nn.Module | None:
    """The twin of a layer over one axis; None where it has none."""
    if isinstance(layer, nn.Conv1d):
        sizes: list[Any] = [layer.kernel_size[0], layer.stride[0], layer.padding[0]]
        made = nn.Conv1d(layer.in_channels, layer.out_channels, sizes[0], sizes[1], sizes[2], bias=False)
        made.load_state_dict(layer.state_dict())
        return made
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm1d(layer.num_features)
    if isinstance(layer, nn.MaxPool1d):
        return nn.MaxPool1d(layer.kernel_size, layer.stride, layer.padding)
    return None


ROWS = {"layout.audio": audio}
