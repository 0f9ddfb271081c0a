"""Random changes to training items; every choice comes from the generator that is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import RandAugment, RandomErasing, TrivialAugmentWide

from datamodules.transforms.affine import matrix, mirror, move_boxes, recolour, warp
from datamodules.transforms.base import Change, Drawn, numbers
from foundation.structures import Batch, InputError, Spec

POLICIES = {"randaugment": RandAugment, "trivial": TrivialAugmentWide}
"""Cubuk et al., 2019 (arXiv:1909.13719); Mueller & Hutter, 2021 (arXiv:2103.10158)."""

SMALLEST = 0.01
"""The least that a picture is scaled to; at 0 there would be nothing left of it."""

SEEDS = 2**48
"""So many seeds of noise there are; a number of a row is exact up to 2**53."""


@dataclass(frozen=True)
class Augment(Change):
    """Changes to an image together with its boxes or mask.

    Args:
        flip: Chance of a mirror image, left to right, 0 to 1.
        flip_vertical: Chance of a mirror image, top to bottom, 0 to 1.
        rotate: Most degrees to either side.
        scale: Most by which the size changes, as a share: 0.2 is 0.8 to 1.2 times.
        shift: Most by which the picture moves, as a share of its sides.
        colour: Most by which brightness and contrast change, as a share.
        crop: Side in pixels of a random cut-out; 0 keeps the picture whole.
        policy: ``randaugment`` or ``trivial`` changes a picture by one or two of torchvision's fourteen ways, after all else;
            grey or RGB classification only.
        erase: Chance that a box of the picture is blackened, 0 to 1; classification only. Source: Zhong et al., 2017 (arXiv:1708.04896).

    Raises:
        InputError: If a share is outside 0..1, another value is negative, or `policy` is unknown.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    color_jitter: float = 0.0
    crop: int = 0
    policy: Literal["none", "randaugment", "trivial"] = "none"
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "scale", "shift", "color_jitter", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.augment.{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.rotate < 0 or self.crop < 0:
            raise InputError(f"data.augment.rotate and crop must not be negative, got {self.rotate} and {self.crop}")
        if self.policy not in ("none", *POLICIES):
            raise InputError(f"data.augment.policy must be none, {' or '.join(POLICIES)}, got {self.policy!r}")

    @property
    def by_batch(self) -> bool:
        """torchvision's policies take one picture at a time."""
        return self.policy == "none" and not self.erase

    @property
    def moves(self) -> bool:
        return bool(self.rotate or self.scale or self.shift)

    def __call__(self, signal: Tensor, target: Any, generator: Generator) -> tuple[Tensor, Any]:
        """A changed copy. `signal` uint8 (C, H, W); `target` a label, a mask (H, W), or {"boxes", "labels"}."""
        image, target = super().__call__(signal, target, generator)
        return self.alter(image, generator), target

    def draw(self, signal: Tensor, target: Any, generator: Generator) -> Drawn:
        """Cut out and move boxes; the row is a `Matrix` with the factors of brightness and contrast."""
        if not (self.crop or self.flip or self.flip_vertical or self.moves or self.color_jitter):
            return signal, target, None
        ranges = [(0, 1)] * 4 + [(-self.rotate, self.rotate)] + [(-self.shift, self.shift)] * 2
        ranges += [(1 - self.scale, 1 + self.scale)] + [(1 - self.color_jitter, 1 + self.color_jitter)] * 2
        top, left, across, down, angle, right, below, scale, *tints = numbers(generator, *ranges)
        signal, target = self.cut(signal, target, top, left)
        height, width = signal.shape[-2:]
        flips = across < self.flip, down < self.flip_vertical
        moved = matrix(flips, angle, max(scale, SMALLEST), (round(right * width), round(below * height)))
        if isinstance(target, dict):
            boxes = move_boxes(target["boxes"], moved, height, width)
            keep = ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(1)  # less than that shows nothing
            target = {"boxes": boxes[keep], "labels": target["labels"][keep]}
        more = self.flip or self.flip_vertical or self.moves or self.color_jitter  # alike for all items
        return signal, target, (*moved, *tints) if more else None

    def cut(self, image: Tensor, target: Any, top: float, left: float) -> tuple[Tensor, Any]:
        """A window of `crop` pixels at shares `top` and `left` of the room there is; a picture smaller than that keeps its smaller side."""
        height, width = image.shape[-2:]
        if not self.crop or (height <= self.crop and width <= self.crop):
            return image, target
        new_height, new_width = min(height, self.crop), min(width, self.crop)
        y, x = int(top * (height - new_height + 1)), int(left * (width - new_width + 1))
        window = (..., slice(y, y + new_height), slice(x, x + new_width))
        if isinstance(target, dict):
            target = target | {"boxes": target["boxes"] - torch.tensor([x, y, x, y])}
        elif isinstance(target, Tensor) and target.ndim == 2:
            target = target[window]
        return image[window], target

    def make(self, batch: Batch, changes: Tensor) -> None:
        images, sizes, target = batch["input"], batch["sizes"], batch["target"]
        masks = target if isinstance(target, Tensor) and target.ndim == 3 else None
        rows, tints = changes.float().split([6, 2], 1)
        if self.moves:
            warp(images, masks, sizes, rows, tints)
            return
        flips = (rows[:, ::4] < 0).tolist()
        for part in (images, *([] if masks is None else [masks])):
            mirror(part, sizes, flips)
        if self.color_jitter:
            recolour(images, sizes, tints)

    def alter(self, image: Tensor, generator: Generator) -> Tensor:
        """What torchvision changes by its global generator, which here follows from ours and is put back afterwards."""
        if self.policy == "none" and not self.erase:
            return image
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            if self.policy != "none":
                image = POLICIES[self.policy](fill=image.float().mean(dim=(1, 2)).tolist())(image)
            return RandomErasing(self.erase)(image)

    def suits(self, spec: Spec) -> None:
        """Refuse data whose target would not move with the picture.

        Raises:
            InputError: If `policy` or `erase` is on and the data is no grey or RGB classification.
        """
        chosen = [name for name, on in (("policy", self.policy != "none"), ("erase", self.erase > 0)) if on]
        if chosen and (spec.target not in ("label", "labels") or spec.channels not in (1, 3)):
            raise InputError(
                f"data.augment.{chosen[0]} changes the picture alone, so it takes grey or RGB pictures with labels; this data has "
                f"{spec.channels} channels with {spec.target}: leave it out, and use flip, rotate, scale, shift, colour and crop"
            )


@dataclass(frozen=True)
class SoundAugment(Change):
    """Changes to a clip of sound.

    Args:
        shift: Most by which a clip moves in time, as a share of its length; what leaves on one side is lost, silence comes in.
        gain: Most by which it gets louder or softer, in decibels.
        noise: Most noise that is added, as a share of the clip's own loudness (RMS).
        mask: Longest stretch that is silenced, as a share of the clip. Source: Park et al., SpecAugment, 2019 (arXiv:1904.08779).

    Raises:
        InputError: If `shift` or `mask` is outside 0..1, or another value is negative.
    """

    shift: float = 0.0
    gain: float = 0.0
    noise: float = 0.0
    mask: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.augment.{name} is a share from 0 to 1, got {getattr(self, name)}")
        if not (self.gain >= 0 and self.noise >= 0):
            raise InputError(f"data.augment.gain and noise must not be negative, got {self.gain} and {self.noise}")

    def suits(self, spec: Spec) -> None:
        """Any sound will do."""

    def draw(self, signal: Tensor, target: Any, generator: Generator) -> Drawn:
        """The row is: samples to move by, factor, share of noise, its seed, start and end of the silence."""
        if not (self.shift or self.gain or self.noise or self.mask):
            return signal, target, None
        length = signal.shape[1]
        ranges = (-self.shift, self.shift), (-self.gain, self.gain), (0, self.noise), (0, SEEDS), (0, self.mask), (0, 1)
        move, gain, noise, seed, silence, start = numbers(generator, *ranges)
        silent = round(silence * length)
        first = round(start * (length - silent))
        return signal, target, (round(move * length), 10 ** (gain / 20), noise, int(seed), first, first + silent)

    def make(self, batch: Batch, changes: Tensor) -> None:
        generator = Generator(batch["input"].device)
        for sound, (move, factor, noise, seed, start, end) in zip(batch["input"], changes.tolist(), strict=True):
            if move:
                slide(sound, int(move))
            sound *= factor
            if noise:
                # Summed in double, which leaves no trace of the order: several threads sum otherwise than one.
                loudness = (sound.double().square().mean().sqrt() * noise).float()
                sound += (
                    torch.randn(sound.shape, generator=generator.manual_seed(int(seed)), device=sound.device) * loudness
                )
            sound[:, int(start) : int(end)] = 0


def slide(sound: Tensor, move: int) -> None:
    """Move (C, T) by some samples, in place; silence comes in."""
    length = sound.shape[1]
    sound[:, max(0, move) : length + min(0, move)] = sound[:, max(0, -move) : length - max(0, move)].clone()
    sound[:, : max(0, move)] = 0
    sound[:, length + min(0, move) :] = 0
