"""Audio classification as in the tutorials: a Dataset that reads a file for each item, and a net of one-dimensional layers.

Source: pytorch.org/audio/stable/tutorials, speech command classification: raw waveform, Adam. The net has the layers of ResNet-18
(He et al., 2015, arXiv:1512.03385), with Conv1d instead of Conv2d.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import Dataset
from torchvision.models import resnet18

from benchmarks.rivals.tutorial import Tutorial, classifier, loaders


def resnet18_1d(classes: int) -> nn.Module:
    """torchvision's ResNet-18 of one-dimensional layers: (N, 1, samples) -> (N, classes)."""
    net = resnet18(num_classes=classes)
    for path, layer in list(net.named_modules()):
        parent, _, name = path.rpartition(".")
        if isinstance(layer, nn.Conv2d):
            channels = (1 if path == "conv1" else layer.in_channels), layer.out_channels
            sizes = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
            net.get_submodule(parent).add_module(name, nn.Conv1d(*channels, *sizes, bias=False))
        elif isinstance(layer, nn.BatchNorm2d):
            net.get_submodule(parent).add_module(name, nn.BatchNorm1d(layer.num_features))
    net.add_module("maxpool", nn.MaxPool1d(3, 2, 1))
    net.add_module("avgpool", nn.AdaptiveAvgPool1d(1))
    return net


class Clips(Dataset):
    """Clips of one split, cut or padded to one length; with augmentation: shift, gain and noise."""

    def __init__(self, root: Path, split: str, length: int, augment: bool) -> None:
        with (root / "manifest.csv").open(newline="") as file:
            self.rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.root, self.length, self.augment = root, length, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        samples = soundfile.read(self.root / row["path"], dtype="float32")[0][: self.length]
        clip = torch.from_numpy(np.pad(samples, (0, self.length - len(samples))))
        if self.augment:
            clip = torch.roll(clip, int(random.uniform(-0.1, 0.1) * self.length))
            clip = clip * 10 ** (random.uniform(-6, 6) / 20)
            clip = clip + torch.randn_like(clip) * clip.std() * random.uniform(0, 0.1)
        return clip[None] / clip.pow(2).mean().sqrt().clamp(min=1e-3), int(row["label"])


def audio(root: Path, length: int, classes: int = 10, batch_size: int = 32) -> Tutorial:
    """ResNet-18 on clips of `length` samples."""
    train, val = Clips(root, "train", length, True), Clips(root, "val", length, False)
    net = resnet18_1d(classes)
    return classifier(net, Adam(net.parameters(), lr=1e-3, weight_decay=1e-4), *loaders(train, val, batch_size))
