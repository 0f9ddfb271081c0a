"""Data that needs no download: real digits for classification, and synthetic scenes and tones. The same on every machine."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw

from datamodules.base.items import ItemDataModule
from datamodules.decoding.image import normalization_stats
from datamodules.decoding.resize import resize_geometry, resize_image
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import AudioAugment
from datamodules.transforms.base import RandomTransform
from foundation.structures import InputError, Sample, Spec, require_range

SPLITS = ("train", "val", "test")
SHAPES = ("circle", "square", "triangle")
SCENE_CLASSES = {"boxes": SHAPES, "mask": ("background", *SHAPES), "labels": SHAPES}
TONES = ("rising", "falling", "steady", "pulsing", "trembling")
RATE = 8000


@dataclass(kw_only=True, eq=False, repr=False)
class Digits(ItemDataModule):
    """1,797 real handwritten digits, gray, 8x8, by 43 people. Source: scikit-learn's `load_digits`, after Alpaydin & Kaynak, 1998.

    The split is the same for every seed.

    Args:
        size: Side in pixels that they are resized to.
        channels: 1, or 3 equal ones.

    Raises:
        InputError: If `size` or `channels` is out of range.
    """

    size: int = 32
    channels: int = 1
    num_workers: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("data.size", self.size, 8)
        require_channels(self.channels)

    def read(self) -> dict[str, list[Item]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.images = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))
        mean, std = normalization_stats(self.channels)
        names = tuple(str(name) for name in digits.target_names)
        self.spec = Spec(2, self.channels, names, mean, std, (self.size, self.size), "stretch")
        self.labels = digits.target.tolist()
        items = [Item(f"digits/{i}", i, stratum=label) for i, label in enumerate(self.labels)]
        return Splits(val=0.15, test=0.15).complete({"train": items}, seed=0)

    def load(self, item: Item) -> Sample:
        image = self.images[item.target].unsqueeze(0)
        image = resize_image(image, resize_geometry(8, 8, self.spec.size, "stretch"), self.spec.size)
        return image.expand(self.channels, -1, -1).contiguous(), self.labels[item.target]


@dataclass(kw_only=True, eq=False, repr=False)
class SyntheticDataModule(ItemDataModule):
    """Items that are generated from (split, index) alone, the same for every seed.

    Args:
        count: Number of training items; validation and test have a fifth of it each.

    Raises:
        InputError: If `count` is below 10.
    """

    count: int = 240
    num_workers: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("data.count", self.count, 10)

    @abstractmethod
    def make_spec(self) -> Spec:
        """Returns the Spec of the data."""

    def read(self) -> dict[str, list[Item]]:
        self.spec = self.make_spec()
        counts = {"train": self.count, "val": self.count // 5, "test": self.count // 5}
        return {
            split: [Item(f"{split}/{i}", (SPLITS.index(split), i)) for i in range(n)] for split, n in counts.items()
        }


@dataclass(kw_only=True, eq=False, repr=False)
class Scenes(SyntheticDataModule):
    """Circles, squares and triangles of any color on a noisy background, which overlap at most at their edges.

    Args:
        target: ``boxes`` for detection, ``mask`` for segmentation, or ``labels`` for which shapes are there (multi-label).
        size: Side of the images in pixels.
        channels: 3 (RGB) or 1 (gray).

    Raises:
        InputError: If `size` is below 48, or `target` or `channels` is unknown.
    """

    target: Literal["boxes", "mask", "labels"] = "boxes"
    size: int = 96
    channels: int = 3
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("data.size", self.size, 48)
        require_channels(self.channels)
        if self.target not in SCENE_CLASSES:
            raise InputError("config.unknown_value", f"data.target must be boxes, mask or labels, got {self.target}")

    def make_spec(self) -> Spec:
        mean, std = normalization_stats(self.channels)
        names = SCENE_CLASSES[self.target]
        return Spec(2, self.channels, names, mean, std, (self.size, self.size), "inside", target=self.target)

    def load(self, item: Item) -> Sample:
        pixels, mask, boxes, labels = draw_scene(np.random.default_rng((7, *item.target)), self.size)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        if self.channels == 1:
            image = image.float().mean(0, keepdim=True).to(torch.uint8)
        return image, targets_of(mask, boxes, labels)[self.target]


def targets_of(mask: np.ndarray, boxes: list, labels: list[int]) -> dict[str, Any]:
    """Returns the target of a scene by kind."""
    return {
        "boxes": {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels).long(),
        },
        "mask": torch.from_numpy(mask),
        "labels": torch.tensor([int(label in labels) for label in range(len(SHAPES))]),
    }


def require_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise InputError("config.out_of_range", f"data.channels must be 1 or 3, got {channels}")


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list, list[int]]:
    """Returns an image uint8 (size, size, 3), its mask uint8 (0 the background, then `SHAPES`), boxes in pixels and labels."""
    ground = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(0, 256, 3)))
    mask = Image.new("L", (size, size), 0)
    draw_image, draw_mask = ImageDraw.Draw(ground), ImageDraw.Draw(mask)
    taken: list[tuple[float, float, float]] = []
    boxes, labels = [], []
    for _ in range(int(rng.integers(1, 6))):
        radius = float(rng.uniform(0.06, 0.17)) * size
        x, y = (float(v) for v in rng.uniform(radius, size - radius, 2))
        if any(math.hypot(x - a, y - b) < radius + r for a, b, r in taken):
            continue
        taken.append((x, y, radius))
        label = int(rng.integers(len(SHAPES)))
        points = outline(label, x, y, radius, float(rng.uniform(0, math.tau)))
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw_image.polygon(points, fill=color)
        draw_mask.polygon(points, fill=label + 1)
        xs, ys = zip(*points, strict=True)
        boxes.append([max(0, min(xs)), max(0, min(ys)), min(size, max(xs) + 1), min(size, max(ys) + 1)])
        labels.append(label)
    noisy = np.asarray(ground, np.float32) + rng.normal(0, 20, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.array(mask), boxes, labels


def outline(label: int, x: float, y: float, radius: float, rotation: float) -> list[tuple[float, float]]:
    """Returns the corners of a shape around (x, y); a circle has 48."""
    corners = {"circle": 48, "square": 4, "triangle": 3}[SHAPES[label]]
    angles = [rotation + math.tau * i / corners for i in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


@dataclass(kw_only=True, eq=False, repr=False)
class Tones(SyntheticDataModule):
    """One second of a tone at 8 kHz in noise: its pitch rises, falls, is constant or vibrates, or its loudness pulses.

    Pitch, loudness, phase and overtones are drawn from the same ranges for every class; only the change over time differs.

    Args:
        noise: Noise as a fraction of the tone's loudness (RMS).
    """

    count: int = 600
    noise: float = 0.3
    augment: RandomTransform = AudioAugment()

    ndim = 1

    def make_spec(self) -> Spec:
        return Spec(1, 1, TONES, size=(RATE,), resize="pad", sample_rate=RATE)

    def load(self, item: Item) -> Sample:
        rng = np.random.default_rng((11, *item.target))
        label = item.target[1] % len(TONES)
        return torch.from_numpy(draw_tone(rng, TONES[label], self.noise)).unsqueeze(0), label


def draw_tone(rng: np.random.Generator, name: str, noise: float) -> np.ndarray:
    """Returns one second as float32 in -1..1."""
    time = np.arange(RATE) / RATE
    pitch, loudness = rng.uniform(200, 1200), rng.uniform(0.1, 0.5)
    contour = {
        "rising": 0.6 + 0.8 * time,
        "falling": 1.4 - 0.8 * time,
        "trembling": 1 + 0.15 * np.sin(math.tau * rng.uniform(5, 9) * time),
    }.get(name, np.ones(RATE))
    phase = math.tau * (rng.random() + np.cumsum(pitch * contour) / RATE)
    wave = np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase)
    if name == "pulsing":
        wave = wave * (0.55 + 0.45 * np.sin(math.tau * rng.uniform(5, 9) * time))
    wave = wave / np.sqrt(np.mean(wave**2)) + noise * rng.normal(size=RATE)
    return (wave * loudness / np.abs(wave).max()).astype(np.float32)
