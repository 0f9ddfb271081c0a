"""Sound as the tutorials write it: a Dataset that reads a file an item, a net over one axis.

Source: pytorch.org/audio/stable/tutorials, speech command classification: raw waveform, Adam. The net has the layers of ResNet-18
(He et al., 2015, arXiv:1512.03385) with `Conv1d` in place of `Conv2d`, written as torchvision writes it.
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
from torch.utils.data import DataLoader, Dataset

from benchmarks.rivals.tutorial import WORKERS, Classifier


class Block(nn.Module):
    """Two convolutions around which the input is led."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, width, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv1d(before, width, 1, stride, bias=False), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet18_1d(classes: int) -> nn.Module:
    """ResNet-18 over one axis: (N, 1, samples) -> (N, classes)."""
    layers: list[nn.Module] = [nn.Conv1d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm1d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool1d(3, 2, 1))
    before = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(before, width, stride), Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(before, classes))


class Clips(Dataset):
    """Clips of one split, cut or padded to one length; those to learn from are moved, made louder or softer, and noisy."""

    def __init__(self, root: Path, split: str, length: int, change: bool) -> None:
        with (root / "manifest.csv").open(newline="") as file:
            self.rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.root, self.length, self.change = root, length, change

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        sound, _ = soundfile.read(self.root / row["path"], dtype="float32")
        sound = sound[: self.length]
        clip = torch.from_numpy(np.pad(sound, (0, self.length - len(sound))))
        if self.change:
            clip = torch.roll(clip, int(random.uniform(-0.1, 0.1) * self.length))
            clip = clip * 10 ** (random.uniform(-6, 6) / 20)
            clip = clip + torch.randn_like(clip) * clip.std() * random.uniform(0, 0.1)
        clip = clip / clip.pow(2).mean().sqrt().clamp(min=1e-3)
        return clip[None], int(row["label"])


def audio(root: Path, length: int, classes: int = 10, batch: int = 32) -> Classifier:
    """ResNet-18 over one axis on clips of `length` samples."""
    train, held = Clips(root, "train", length, True), Clips(root, "val", length, False)
    net = resnet18_1d(classes)
    return Classifier(
        net,
        Adam(net.parameters(), lr=1e-3, weight_decay=1e-4),
        DataLoader(train, batch, shuffle=True, num_workers=WORKERS, drop_last=len(train) % batch == 1),
        DataLoader(held, batch, num_workers=WORKERS),
    )
