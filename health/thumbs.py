"""The small picture that stands for an item when items are compared: an image shrunk, a sound's spectrogram."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from health.similar import SIDE

QUIET = 60.0  # decibels below the loudest moment that a sound's spectrogram reaches down to
WINDOW = 32  # windows of sound are half-overlapping, so many a clip


def thumb(signal: Tensor) -> NDArray[np.uint8]:
    """An image (C, H, W) in 0..255, or a sound (C, T) in -1..1, as a grey picture (SIDE, SIDE)."""
    picture = spectrogram(signal.float().mean(0)) if signal.ndim == 2 else signal.float().mean(0)
    shrunk = torch.nn.functional.interpolate(
        picture[None, None], size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    return shrunk[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def spectrogram(wave: Tensor) -> Tensor:
    """A sound (T,) -> its loudness (bands, times) in 0..255: the upper `QUIET` decibels, bands evenly spaced in octaves.

    Silence at the end is left out, so that clips are compared over what can be heard.
    """
    heard = wave.abs().nonzero()
    wave = wave[: int(heard[-1]) + 1] if len(heard) else wave
    length = max(64, 1 << max(1, 2 * len(wave) // WINDOW).bit_length())
    if len(wave) < length:
        wave = torch.nn.functional.pad(wave, (0, length - len(wave)))
    window = torch.hann_window(length)
    power = torch.stft(wave, length, length // 4, window=window, center=False, return_complex=True).abs() ** 2
    edges = np.unique(np.geomspace(1, len(power), SIDE + 1).round().astype(int))
    bands = torch.stack([power[low:high].mean(0) for low, high in zip(edges[:-1], edges[1:], strict=True)])
    decibels = 10 * torch.log10(bands + 1e-12)
    return (decibels - decibels.max() + QUIET).clamp(min=0) * (255 / QUIET)


def digest(signal: Tensor) -> str:
    """A word that two signals share only if every value and the shape agree."""
    content = signal.contiguous().numpy()
    return hashlib.blake2b(content.tobytes(), digest_size=12, salt=str(content.shape).encode()[:16]).hexdigest()
