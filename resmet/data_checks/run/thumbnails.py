"""The thumbnail by which an item is compared: an image in small, or the spectrogram of audio."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIDE = 32  # of the thumbnail of an image, in pixels
BANDS, FRAMES = 16, 64  # of the thumbnail of audio: frequency bands, time frames
DYNAMIC_RANGE = 25.0  # decibels below the maximum that are compared: lossy codecs change what is below
ONSET = 0.03  # of the maximal power (-15 dB): audio is taken to start where it is first exceeded


def thumbnail(signal: Tensor) -> NDArray[np.uint8]:
    """Image (C, H, W) in 0..255 -> gray (SIDE, SIDE); waveform (C, T) in -1..1 -> spectrogram (BANDS, FRAMES)."""
    is_audio, gray = signal.ndim == 2, signal[0].float() if len(signal) == 1 else signal.float().mean(0)
    resized = torch.nn.functional.interpolate(
        (spectrogram(gray) if is_audio else gray)[None, None],
        size=(BANDS, FRAMES) if is_audio else (SIDE, SIDE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return resized[0, 0].round().to(torch.uint8).numpy()


def spectrogram(waveform: Tensor) -> Tensor:
    """Waveform (T,) -> loudness (bands, `FRAMES`) in 0..255: the upper `DYNAMIC_RANGE` decibels in logarithmic bands.

    It starts at the onset, so that leading silence makes no difference; the T samples are divided into `FRAMES`.
    """
    hop = max(1, len(waveform) // FRAMES)
    window = max(4, 1 << (4 * hop - 1).bit_length())
    length = hop * (FRAMES - 1) + window
    waveform = torch.nn.functional.pad(from_onset(waveform, hop), (window // 2, length))[:length]
    spectrum = torch.stft(waveform, window, hop, window=torch.hann_window(window), center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    decibels = 10 * torch.log10(band_weights(len(power)) @ power + 1e-12)
    return (decibels - decibels.max() + DYNAMIC_RANGE).clamp(min=0) * (255 / DYNAMIC_RANGE)


@cache
def band_weights(frequencies: int) -> Tensor:
    """Returns weights (bands, frequencies) that average the frequencies of each of up to `BANDS` logarithmic bands."""
    edges = np.unique(np.geomspace(max(1, frequencies // 100), frequencies, BANDS + 1).round().astype(int))
    weights = torch.zeros(len(edges) - 1, frequencies)
    for band, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        weights[band, low:high] = 1 / float(high - low)
    return weights


def from_onset(waveform: Tensor, hop: int) -> Tensor:
    """Waveform (T,) -> the part from one hop before the power over two hops first exceeds `ONSET` of its maximum."""
    energy = torch.nn.functional.pad(waveform.double() ** 2, (hop + 1, hop)).cumsum(0)
    power = energy[2 * hop :] - energy[: -2 * hop]
    start = int((power >= ONSET * power.max()).nonzero()[0])
    return torch.nn.functional.pad(waveform, (hop, 0))[start:]


def digest(signal: Tensor) -> str:
    """Returns a hash of a signal's shape and values."""
    hasher = hashlib.sha1(str(signal.shape).encode(), usedforsecurity=False)  # twice as fast as blake2b
    hasher.update(signal.contiguous().numpy().data)
    return hasher.hexdigest()
