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
from torch.utils.data import DataLoader, Dataset

from benchmarks.rivals.tutorial import NUM_WORKERS, Classifier


class Block(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(inplace=True),
            nn.Conv1d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm1d(channels),
        )
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            conv = nn.Conv1d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.layers(x) + self.downsample(x), inplace=True)


def resnet18_1d(classes: int) -> nn.Module:
    """ResNet-18 on a waveform: (N, 1, samples) -> (N, classes)."""
    layers: list[nn.Module] = [nn.Conv1d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm1d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool1d(3, 2, 1))
    in_channels = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(in_channels, channels, stride), Block(channels, channels, 1)]
        in_channels = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(in_channels, classes))


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


def audio(root: Path, length: int, classes: int = 10, batch_size: int = 32) -> Classifier:
    """ResNet-18 on clips of `length` samples."""
    train, val = Clips(root, "train", length, True), Clips(root, "val", length, False)
    net = resnet18_1d(classes)
    last_of_one = len(train) % batch_size == 1  # BatchNorm can't train on one item
    return Classifier(
        net,
        Adam(net.parameters(), lr=1e-3, weight_decay=1e-4),
        DataLoader(train, batch_size, shuffle=True, num_workers=NUM_WORKERS, drop_last=last_of_one),
        DataLoader(val, batch_size, num_workers=NUM_WORKERS),
    )
