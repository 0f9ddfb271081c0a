"""The small picture that stands for an item when items are compared: an image shrunk, a sound's spectrogram."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmet.data_checks.checks.near_duplicates import BANDS, SIDE, TIMES

QUIET = (
    25.0  # decibels below the loudest moment down to which a sound is compared: below it a codec drops what it likes
)
ONSET = 0.03  # of the largest power (-15 dB): where it is first reached, the sound is taken to begin


def thumb(signal: Tensor) -> NDArray[np.uint8]:
    """An image (C, H, W) in 0..255 as a grey picture (SIDE, SIDE), a sound (C, T) in -1..1 as a spectrogram (BANDS, TIMES)."""
    sound = signal.ndim == 2
    picture = spectrogram(signal.float().mean(0)) if sound else signal.float().mean(0)
    shrunk = torch.nn.functional.interpolate(
        picture[None, None],
        size=(BANDS, TIMES) if sound else (SIDE, SIDE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return shrunk[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def spectrogram(wave: Tensor) -> Tensor:
    """A sound (T,) -> its loudness (bands, `TIMES`) in 0..255: the upper `QUIET` decibels, bands evenly spaced in octaves.

    It starts at the onset of sound, so that silence before it makes no difference; T in all is divided into `TIMES`.
    """
    step = max(1, len(wave) // TIMES)
    length = max(4, 1 << (4 * step - 1).bit_length())
    whole = step * (TIMES - 1) + length
    wave = torch.nn.functional.pad(from_onset(wave, step), (length // 2, whole))[:whole]
    window = torch.hann_window(length)
    power = torch.stft(wave, length, step, window=window, center=False, return_complex=True).abs() ** 2
    lowest = max(1, len(power) // 100)
    edges = np.unique(np.geomspace(lowest, len(power), BANDS + 1).round().astype(int))
    bands = torch.stack([power[low:high].mean(0) for low, high in zip(edges[:-1], edges[1:], strict=True)])
    decibels = 10 * torch.log10(bands + 1e-12)
    return (decibels - decibels.max() + QUIET).clamp(min=0) * (255 / QUIET)


def from_onset(wave: Tensor, step: int) -> Tensor:
    """A sound (T,) from where the power over two steps first is not small against the largest, one step of what was before with it."""
    energy = torch.nn.functional.pad(wave.double() ** 2, (step + 1, step)).cumsum(0)
    power = energy[2 * step :] - energy[: -2 * step]
    start = int((power >= ONSET * power.max()).nonzero()[0])
    return torch.nn.functional.pad(wave, (step, 0))[start:]


def digest(signal: Tensor) -> str:
    """A word that two signals share only if every value and the shape agree."""
    content = signal.contiguous().numpy()
    return hashlib.blake2b(content.tobytes(), digest_size=12, salt=str(content.shape).encode()[:16]).hexdigest()
