"""Random changes to training items; every choice comes from the generator that is handed in."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode, RandAugment, RandomErasing, TrivialAugmentWide, functional

from structures import IGNORE, InputError, Spec

POLICIES = {"randaugment": RandAugment, "trivial": TrivialAugmentWide}
"""Cubuk et al., 2019 (arXiv:1909.13719); Mueller & Hutter, 2021 (arXiv:2103.10158)."""


def uniform(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


@dataclass(frozen=True)
class Augment:
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
    colour: float = 0.0
    crop: int = 0
    policy: Literal["none", "randaugment", "trivial"] = "none"
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "scale", "shift", "colour", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.augment.{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.rotate < 0 or self.crop < 0:
            raise InputError(f"data.augment.rotate and crop must not be negative, got {self.rotate} and {self.crop}")
        if self.policy not in ("none", *POLICIES):
            raise InputError(f"data.augment.policy must be none, {' or '.join(POLICIES)}, got {self.policy!r}")

    def __call__(self, image: Tensor, target: Any, generator: Generator) -> tuple[Tensor, Any]:
        """A changed copy. `image` uint8 (C, H, W); `target` a label, a mask (H, W), or {"boxes", "labels"}."""
        wrapped = wrap(image, target)
        for step in (self.cut, self.mirror, self.move, self.tint):
            wrapped = step(wrapped, generator)
        image, target = unwrap(wrapped, target)
        return self.alter(image, generator), target

    def alter(self, image: Tensor, generator: Generator) -> Tensor:
        """What torchvision changes by its global generator, which here follows from ours and is put back afterwards."""
        if self.policy == "none" and not self.erase:
            return image
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            if self.policy != "none":
                image = POLICIES[self.policy](fill=image_fill(image))(image)
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

    def mirror(self, parts: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        if self.flip and uniform(generator, 0, 1) < self.flip:
            parts = {name: functional.horizontal_flip(part) for name, part in parts.items()}
        if self.flip_vertical and uniform(generator, 0, 1) < self.flip_vertical:
            parts = {name: functional.vertical_flip(part) for name, part in parts.items()}
        return parts

    def move(self, parts: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """Rotation, scale and shift in one resampling."""
        if not (self.rotate or self.scale or self.shift):
            return parts
        height, width = parts["image"].shape[-2:]
        angle = uniform(generator, -self.rotate, self.rotate)
        shift = [round(uniform(generator, -self.shift, self.shift) * side) for side in (width, height)]
        scale = uniform(generator, 1 - self.scale, 1 + self.scale)
        fill = {"image": image_fill(parts["image"]), "mask": [float(IGNORE)], "boxes": None}
        mode = {"image": InterpolationMode.BILINEAR, "mask": InterpolationMode.NEAREST}
        return {
            name: functional.affine(
                part,
                angle,
                shift,
                scale,
                [0.0, 0.0],
                interpolation=mode.get(name, InterpolationMode.NEAREST),
                fill=fill[name],
            )
            for name, part in parts.items()
        }

    def tint(self, parts: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        if not self.colour:
            return parts
        image = parts["image"].as_subclass(Tensor)
        image = image if image.shape[0] in (1, 3) else image.unsqueeze(1)  # other channels are so many grey pictures
        image = functional.adjust_brightness(image, uniform(generator, 1 - self.colour, 1 + self.colour))
        image = functional.adjust_contrast(image, uniform(generator, 1 - self.colour, 1 + self.colour))
        return parts | {"image": tv_tensors.Image(image.reshape(parts["image"].shape))}

    def cut(self, parts: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """A window of `crop` pixels; a picture smaller than that keeps its smaller side."""
        height, width = parts["image"].shape[-2:]
        if not self.crop or (height <= self.crop and width <= self.crop):
            return parts
        new_height, new_width = min(height, self.crop), min(width, self.crop)
        top = int(uniform(generator, 0, height - new_height + 1))
        left = int(uniform(generator, 0, width - new_width + 1))
        return {name: functional.crop(part, top, left, new_height, new_width) for name, part in parts.items()}


def image_fill(image: Tensor) -> list[float]:
    """What stands where a moved picture leaves a gap: its own mean, a value a channel."""
    return image.float().mean(dim=(1, 2)).tolist()


def wrap(image: Tensor, target: Any) -> dict[str, Tensor]:
    """The parts that move together, each knowing what it is."""
    parts: dict[str, Tensor] = {"image": tv_tensors.Image(image)}
    if isinstance(target, dict):
        parts["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=tuple(image.shape[-2:]))
    elif isinstance(target, Tensor) and target.ndim == 2:
        parts["mask"] = tv_tensors.Mask(target.unsqueeze(0))
    return parts


def unwrap(parts: dict[str, Tensor], target: Any) -> tuple[Tensor, Any]:
    """Plain tensors again; boxes of which less than two pixels a side are left go, with their labels."""
    image = parts["image"].as_subclass(Tensor)
    if "mask" in parts:
        return image, parts["mask"].as_subclass(Tensor)[0]
    if "boxes" in parts:
        boxes = functional.clamp_bounding_boxes(parts["boxes"]).as_subclass(Tensor)
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(1)
        return image, {"boxes": boxes[keep], "labels": target["labels"][keep]}
    return image, target


@dataclass(frozen=True)
class SoundAugment:
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

    def __call__(self, sound: Tensor, target: Any, generator: Generator) -> tuple[Tensor, Any]:
        """A changed copy of `sound`, float (C, T) in -1..1."""
        length = sound.shape[1]
        move = round(uniform(generator, -self.shift, self.shift) * length)
        if move:
            moved = torch.zeros_like(sound)
            moved[:, max(0, move) : length + min(0, move)] = sound[:, max(0, -move) : length - max(0, move)]
            sound = moved
        sound = sound * 10 ** (uniform(generator, -self.gain, self.gain) / 20)
        if self.noise:
            loudness = sound.pow(2).mean().sqrt() * uniform(generator, 0, self.noise)
            sound = sound + loudness * torch.randn(sound.shape, generator=generator)
        return self.silence(sound, generator), target

    def silence(self, sound: Tensor, generator: Generator) -> Tensor:
        if not self.mask:
            return sound
        length = round(uniform(generator, 0, self.mask) * sound.shape[1])
        start = round(uniform(generator, 0, sound.shape[1] - length))
        sound = sound.clone()
        sound[:, start : start + length] = 0
        return sound
