"""Random augmentation of training items; every choice comes from the generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from datamodules.transforms.affine import adjust_color, flip, inverse_affine_matrix, warp
from datamodules.transforms.base import Params, RandomTransform, uniform
from foundation.structures import Batch, InputError, Spec, require_range
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS

POLICIES = {"randaugment": "RandAugment", "trivialaugment": "TrivialAugmentWide"}
"""Cubuk et al., 2019 (arXiv:1909.13719); Mueller & Hutter, 2021 (arXiv:2103.10158)."""

MIN_SCALE = 0.01
"""Lower bound of the scale factor; at 0 the image would vanish."""

SEEDS = 2**48
"""Number of noise seeds; parameters are float64, which holds integers exactly up to 2**53."""


@dataclass(frozen=True)
class Augment(RandomTransform):
    """Augmentation of an image together with its boxes or mask.

    Args:
        horizontal_flip: Probability of a flip left to right, 0 to 1.
        vertical_flip: Probability of a flip top to bottom, 0 to 1.
        degrees: Largest rotation to either side, in degrees.
        scale: Largest relative change of the size: 0.2 scales by 0.8 to 1.2.
        translate: Largest translation, as a fraction of the image's sides.
        color_jitter: Largest relative change of brightness and of contrast.
        random_crop: Side of a random crop in pixels; 0 keeps the whole image.
        auto_augment: ``randaugment`` or ``trivialaugment`` applies one or two of torchvision's fourteen operations after all else; ``none``
            does not. For classification of grayscale or RGB images only.
        random_erasing: Probability that a box of the image is set to 0, 0 to 1; for classification only.
            Source: Zhong et al., 2017 (arXiv:1708.04896).

    Raises:
        InputError: If a fraction is outside 0..1, another value is negative, or `auto_augment` is unknown.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    color_jitter: float = 0.0
    random_crop: int = 0
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = "none"
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "scale", "translate", "color_jitter", "random_erasing"):
            require_range(f"data.augment.{name}", getattr(self, name), 0, 1)
        for name in ("degrees", "random_crop"):
            require_range(f"data.augment.{name}", getattr(self, name), 0)
        if self.auto_augment not in ("none", *POLICIES):
            text = f"data.augment.auto_augment must be none, {' or '.join(POLICIES)}, got {self.auto_augment!r}"
            raise InputError("config.unknown_value", text)

    @property
    def batched(self) -> bool:
        """torchvision's policies and random erasing take one image at a time."""
        return self.auto_augment == "none" and not self.random_erasing

    @property
    def is_affine(self) -> bool:
        """Whether images are resampled, rather than flipped only."""
        return bool(self.degrees or self.scale or self.translate)

    @property
    def transforms_batches(self) -> bool:
        """Whether anything but cropping is left to `transform`."""
        return bool(self.horizontal_flip or self.vertical_flip or self.is_affine or self.color_jitter)

    def __call__(self, signal: Tensor, target: Any, generator: Generator, kind: TargetKind) -> tuple[Tensor, Any]:
        """Returns an augmented copy. `signal` is uint8 (C, H, W); `target` a label, a mask (H, W), or {"boxes", "labels"}."""
        image, target = super().__call__(signal, target, generator, kind)
        return self.apply_policy(image, generator), target

    def make_params(self, signal: Tensor, target: Any, generator: Generator, kind: TargetKind) -> Params:
        """Crops the item and transforms its boxes; the parameters are an affine `Matrix` and the factors of brightness and contrast."""
        if not (self.random_crop or self.transforms_batches):
            return signal, target, None
        ranges = [(0, 1)] * 4 + [(-self.degrees, self.degrees)] + [(-self.translate, self.translate)] * 2
        ranges += [(1 - self.scale, 1 + self.scale)] + [(1 - self.color_jitter, 1 + self.color_jitter)] * 2
        top, left, horizontal, vertical, angle, right, down, scale, *factors = uniform(generator, *ranges)
        signal, target = self.crop(signal, target, top, left, kind)
        height, width = signal.shape[-2:]
        flips = horizontal < self.horizontal_flip, vertical < self.vertical_flip
        translation = round(right * width), round(down * height)
        matrix = inverse_affine_matrix(flips, angle, max(scale, MIN_SCALE), translation)
        target = kind.affine(target, matrix, height, width)
        return signal, target, (*matrix, *factors) if self.transforms_batches else None

    def crop(self, image: Tensor, target: Any, top: float, left: float, kind: TargetKind) -> tuple[Tensor, Any]:
        """Crops to `random_crop` pixels at fractions `top` and `left` of the free space; a smaller side is kept whole."""
        height, width = image.shape[-2:]
        side = self.random_crop
        if not side or (height <= side and width <= side):
            return image, target
        new_height, new_width = min(height, side), min(width, side)
        y, x = int(top * (height - new_height + 1)), int(left * (width - new_width + 1))
        return image[..., y : y + new_height, x : x + new_width], kind.crop(target, y, x, new_height, new_width)

    def transform(self, batch: Batch, params: Tensor, kind: TargetKind) -> None:
        images, sizes, masks = batch["input"], batch["sizes"], kind.pixel_map(batch["target"])
        matrices, factors = params.float().split([6, 2], 1)
        if self.is_affine:
            warp(images, masks, sizes, matrices, factors)
            return
        flips = (matrices[:, ::4] < 0).tolist()
        flip(images, sizes, flips)
        if masks is not None:
            flip(masks, sizes, flips)
        if self.color_jitter:
            adjust_color(images, sizes, factors)

    def apply_policy(self, image: Tensor, generator: Generator) -> Tensor:
        """Applies torchvision's transforms, which draw from the global generator: it is seeded from `generator` and restored afterwards."""
        if self.batched:
            return image
        from torchvision.transforms import v2  # takes 1.3 s

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            if self.auto_augment != "none":
                image = getattr(v2, POLICIES[self.auto_augment])(fill=image.float().mean(dim=(1, 2)).tolist())(image)
            return v2.RandomErasing(self.random_erasing)(image)

    def check_spec(self, spec: Spec) -> None:
        """Refuses data whose target would not be transformed with the image.

        Raises:
            InputError: If `auto_augment` or `random_erasing` is on and the data is not classification of grayscale or RGB images.
        """
        if self.batched or (TARGETS[spec.target].whole_item and spec.channels in (1, 3)):
            return
        name = "random_erasing" if self.auto_augment == "none" else "auto_augment"
        text = f"data.augment.{name} takes grayscale or RGB images with labels, not {spec.channels} channels with {spec.target}"
        raise InputError("data.augment_mismatch", f"{text}: leave it out")


@dataclass(frozen=True)
class AudioAugment(RandomTransform):
    """Augmentation of a waveform.

    Args:
        shift: Largest shift in time, as a fraction of the clip's length; the gap is filled with silence.
        gain: Largest change of the volume, in decibels.
        noise: Largest RMS of added Gaussian noise, as a fraction of the clip's own RMS.
        time_mask: Longest stretch that is silenced, as a fraction of the clip. Source: Park et al., SpecAugment, 2019 (arXiv:1904.08779).

    Raises:
        InputError: If `shift` or `time_mask` is outside 0..1, or another value is negative.
    """

    shift: float = 0.0
    gain: float = 0.0
    noise: float = 0.0
    time_mask: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "time_mask"):
            require_range(f"data.augment.{name}", getattr(self, name), 0, 1)
        for name in ("gain", "noise"):
            require_range(f"data.augment.{name}", getattr(self, name), 0)

    def check_spec(self, spec: Spec) -> None:
        """Accepts any audio."""

    def make_params(self, signal: Tensor, target: Any, generator: Generator, kind: TargetKind) -> Params:
        """The parameters are: samples to shift by, volume factor, noise level, its seed, start and end of the silence."""
        if not (self.shift or self.gain or self.noise or self.time_mask):
            return signal, target, None
        length = signal.shape[1]
        shift, gain, noise, seed, masked, start = uniform(
            generator, (-self.shift, self.shift), (-self.gain, self.gain), (0, self.noise), (0, SEEDS), (0, self.time_mask), (0, 1)
        )  # fmt: skip
        silent = round(masked * length)
        first = round(start * (length - silent))
        return signal, target, (round(shift * length), 10 ** (gain / 20), noise, int(seed), first, first + silent)

    def transform(self, batch: Batch, params: Tensor, kind: TargetKind) -> None:
        generator = Generator(batch["input"].device)
        for wave, (shift, factor, noise, seed, start, end) in zip(batch["input"], params.tolist(), strict=True):
            if shift:
                shift_in_time(wave, int(shift))
            wave *= factor
            if noise:
                # Summed in double precision, so that the result does not depend on the number of threads.
                rms = (wave.double().square().mean().sqrt() * noise).float()
                generator.manual_seed(int(seed))
                wave += torch.randn(wave.shape, generator=generator, device=wave.device) * rms
            wave[:, int(start) : int(end)] = 0


def shift_in_time(wave: Tensor, samples: int) -> None:
    """Shifts (C, T) in place, later for a positive number; the gap is filled with silence."""
    length = wave.shape[1]
    wave[:, max(0, samples) : length + min(0, samples)] = wave[:, max(0, -samples) : length - max(0, samples)].clone()
    wave[:, : max(0, samples)] = 0
    wave[:, length + min(0, samples) :] = 0
