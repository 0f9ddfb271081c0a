"""Row ``layout.audio``: does sound go faster as a picture of height 1 whose channels lie last?"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from benchmarks.pieces import ours, step, timed
from benchmarks.rounds import Result, Settings
from structures import Spec


def audio(settings: Settings) -> Result:
    """ResNet-18 over 32 clips of 8,000 samples, forward and backward: one axis, as it is, against two of height 1, channels last."""
    task = ours(("task=audio",), Spec(1, 1, tuple("abcdefghij")))
    flat = deepcopy(task.backbone)
    flatten(flat)
    flat.to(memory_format=torch.channels_last)
    sound = torch.randn(settings.few(4, 32), 1, 8000)
    picture = sound.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    deepest = task.head.stride
    return timed(
        step(lambda: task.backbone(sound)[deepest].float().square().mean(), task.backbone),
        step(lambda: flat(picture)[deepest].float().square().mean(), flat),
        settings,
    )


def flatten(module: nn.Module) -> None:
    """Put two-axis layers of height 1 in the place of one-axis layers, with the same weights."""
    for name, child in module.named_children():
        if made := flattened(child):
            setattr(module, name, made)
        else:
            flatten(child)


def flattened(layer: Any) -> nn.Module | None:
    """The two-axis twin of a layer; None where it has none."""
    if isinstance(layer, nn.Conv1d):
        width, stride, padding = (1, layer.kernel_size[0]), (1, layer.stride[0]), (0, int(layer.padding[0]))
        made = nn.Conv2d(layer.in_channels, layer.out_channels, width, stride, padding, bias=False)
        made.weight.data.copy_(layer.weight.data.unsqueeze(2))
        return made
    if isinstance(layer, nn.BatchNorm1d):
        return nn.BatchNorm2d(layer.num_features)
    if isinstance(layer, nn.MaxPool1d):
        return nn.MaxPool2d(along(layer.kernel_size), along(layer.stride), along(layer.padding, 0))
    return None


def along(value: Any, across: int = 1) -> tuple[int, int]:
    """A number for the axis of time, beside that for the height."""
    return across, int(value)


ROWS = {"layout.audio": audio}
