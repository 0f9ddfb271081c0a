"""Data that needs no download: real digits for classification, and drawn scenes and sounds. The same on every machine."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import Sample
from datamodules.decoding.image import normalization_stats
from datamodules.decoding.resize import resize_geometry, resize_image
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.structures import InputError, Spec

SPLITS = ("train", "val", "test")
SHAPES = ("circle", "square", "triangle")
TONES = ("rising", "falling", "steady", "pulsing", "trembling")
RATE = 8000


class Digits(DataModule):
    """1,797 real handwritten digits, grey, 8x8, by 43 people. Source: scikit-learn's `load_digits`, after Alpaydin & Kaynak, 1998.

    Args:
        size: Side in pixels that they are enlarged to.
        channels: 1, or 3 copies of it.
        batch_size: Images a batch.
        seed: Of shuffle and changes; the split is always the same.
        augment: Changes to training images.

    Raises:
        InputError: If `size` or `channels` is out of range.
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 1,
        batch_size: int = 32,
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
    ) -> None:
        super().__init__(batch_size, 0, True, seed, augment)
        if size < 8 or channels not in (1, 3):
            raise InputError(f"data.size must be at least 8 and data.channels 1 or 3, got {size} and {channels}")
        self.size, self.channels = size, channels

    def read(self) -> dict[str, list[Item]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.pictures = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))
        mean, std = normalization_stats(self.channels)
        names = tuple(str(name) for name in digits.target_names)
        self.spec = Spec(2, self.channels, names, mean, std, (self.size, self.size), "stretch")
        self.labels = digits.target.tolist()
        items = [Item(f"digits/{i}", i, stratum=label) for i, label in enumerate(self.labels)]
        return Splits(val=0.15, test=0.15).complete({"train": items}, seed=0)

    def load(self, item: Item) -> Sample:
        picture = self.pictures[item.target].unsqueeze(0)
        picture = resize_image(picture, resize_geometry(8, 8, self.spec.size, "stretch"), self.spec.size)
        return picture.expand(self.channels, -1, -1).contiguous(), self.labels[item.target]


class Drawn(DataModule):
    """Items drawn from (split, index) alone.

    Args:
        count: Training items; validation and test have a fifth of it each.
        batch_size: Items a batch.
        seed: Of shuffle and changes; what is drawn is always the same.
        augment: Changes to training items.

    Raises:
        InputError: If `count` is below 10.
    """

    def __init__(self, count: int, batch_size: int, seed: int, augment: Callable[..., Sample]) -> None:
        super().__init__(batch_size, 0, True, seed, augment)
        if count < 10:
            raise InputError(f"data.count must be at least 10, got {count}")
        self.count = count

    @abstractmethod
    def make_spec(self) -> Spec:
        """What the drawn data says of itself."""

    def read(self) -> dict[str, list[Item]]:
        self.spec = self.make_spec()
        counts = {"train": self.count, "val": self.count // 5, "test": self.count // 5}
        return {
            split: [Item(f"{split}/{i}", (SPLITS.index(split), i)) for i in range(n)] for split, n in counts.items()
        }


class Scenes(Drawn):
    """Circles, squares and triangles of any colour on a noisy ground, overlapping at the edges at most.

    Args:
        target: ``boxes`` for detection, ``mask`` for segmentation, or ``labels`` for which shapes are there (multi-label).
        count: Training images; validation and test have a fifth of it each.
        size: Side of the pictures in pixels.
        channels: 3 (RGB) or 1 (grey).
        batch_size: Images a batch.
        seed: Of shuffle and changes.
        augment: Changes to training images.

    Raises:
        InputError: If `size` is below 48, or `target` or `channels` is unknown.
    """

    def __init__(
        self,
        target: str = "boxes",
        count: int = 240,
        size: int = 96,
        channels: int = 3,
        batch_size: int = 8,
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
    ) -> None:
        super().__init__(count, batch_size, seed, augment)
        if size < 48 or channels not in (1, 3) or target not in ("boxes", "mask", "labels"):
            raise InputError(
                f"data: size at least 48, channels 1 or 3, target boxes, mask or labels; got {size}, {channels}, {target}"
            )
        self.kind, self.size, self.channels = target, size, channels

    def make_spec(self) -> Spec:
        mean, std = normalization_stats(self.channels)
        names = ("background", *SHAPES) if self.kind == "mask" else SHAPES
        return Spec(2, self.channels, names, mean, std, (self.size, self.size), "inside", target=self.kind)

    def load(self, item: Item) -> Sample:
        picture, mask, boxes, labels = draw_scene(np.random.default_rng((7, *item.target)), self.size)
        image = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
        if self.channels == 1:
            image = image.float().mean(0, keepdim=True).to(torch.uint8)
        if self.kind == "mask":
            return image, torch.from_numpy(mask)
        if self.kind == "labels":
            return image, torch.tensor([int(i in labels) for i in range(len(SHAPES))])
        return image, {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
        }


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list, list[int]]:
    """A picture uint8 (size, size, 3), its mask uint8 (0 the ground, then `SHAPES`), boxes in pixels and labels."""
    ground = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(0, 256, 3)))
    mask = Image.new("L", (size, size), 0)
    brush, stencil = ImageDraw.Draw(ground), ImageDraw.Draw(mask)
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
        brush.polygon(points, fill=color)
        stencil.polygon(points, fill=label + 1)
        xs, ys = zip(*points, strict=True)
        boxes.append([max(0, min(xs)), max(0, min(ys)), min(size, max(xs) + 1), min(size, max(ys) + 1)])
        labels.append(label)
    noisy = np.asarray(ground, np.float32) + rng.normal(0, 20, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.array(mask), boxes, labels


def outline(label: int, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape around (x, y); a circle has 48."""
    corners = {"circle": 48, "square": 4, "triangle": 3}[SHAPES[label]]
    angles = [turn + math.tau * i / corners for i in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


class Tones(Drawn):
    """One second of sound at 8 kHz in noise: its pitch rises, falls, stays, or its loudness pulses, or its pitch trembles.

    Pitch, loudness, phase and overtones are drawn from the same ranges for every class; only the course of time tells them apart.

    Args:
        count: Training clips; validation and test have a fifth of it each.
        noise: Noise as a share of the tone's loudness (RMS).
        batch_size: Clips a batch.
        seed: Of shuffle and changes.
        augment: Changes to training clips.
    """

    ndim = 1

    def __init__(
        self,
        count: int = 600,
        noise: float = 0.3,
        batch_size: int = 32,
        seed: int = 0,
        augment: Callable[..., Sample] = AudioAugment(),
    ) -> None:
        super().__init__(count, batch_size, seed, augment)
        self.noise = noise

    def make_spec(self) -> Spec:
        return Spec(1, 1, TONES, size=(RATE,), resize="pad", sample_rate=RATE)

    def load(self, item: Item) -> Sample:
        rng = np.random.default_rng((11, *item.target))
        label = item.target[1] % len(TONES)
        return torch.from_numpy(draw_tone(rng, TONES[label], self.noise)).unsqueeze(0), label


def draw_tone(rng: np.random.Generator, name: str, noise: float) -> np.ndarray:
    """One second as float32 in -1..1."""
    time = np.arange(RATE) / RATE
    pitch, loudness = rng.uniform(200, 1200), rng.uniform(0.1, 0.5)
    course = {
        "rising": 0.6 + 0.8 * time,
        "falling": 1.4 - 0.8 * time,
        "trembling": 1 + 0.15 * np.sin(math.tau * rng.uniform(5, 9) * time),
    }.get(name, np.ones(RATE))
    phase = math.tau * (rng.random() + np.cumsum(pitch * course) / RATE)
    wave = np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase)
    if name == "pulsing":
        wave = wave * (0.55 + 0.45 * np.sin(math.tau * rng.uniform(5, 9) * time))
    wave = wave / np.sqrt(np.mean(wave**2)) + noise * rng.normal(size=RATE)
    return (wave * loudness / np.abs(wave).max()).astype(np.float32)
