"""Opens every item once, on all cores, and measures it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base.items import ItemDataModule
from datamodules.decoding.mask import read_mask
from datamodules.splits.splits import Item
from foundation.hardware import cores
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS
from resmet.data_checks.checks import audio, images, masks, videos
from resmet.data_checks.model.context import Facts

CHUNK = 32  # items per job: a job of its own for a small item costs more than to open it
SIDE = 32  # of the thumbnail of an image, in pixels
BANDS, FRAMES = 16, 64  # of the thumbnail of audio: frequency bands, time frames
DYNAMIC_RANGE = 25.0  # decibels below the maximum that are compared: lossy codecs change what is below
ONSET = 0.03  # of the maximal power (-15 dB): audio is taken to start where it is first exceeded

Progress = Callable[[int, int], None]
"""Called with the number of items done, and of all."""


def inspect_items(data: ItemDataModule, items: Iterable[Item], progress: Progress) -> dict[str, Facts]:
    """Returns {name: facts} of all items."""
    unique = list({item.name: item for item in items}.values())
    object_masks = data.target == "mask" and any(len(data.files(item)) > 2 for item in unique)
    chunks = [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
    facts: dict[str, Facts] = {}
    with ThreadPoolExecutor(cores()) as pool:
        for chunk in pool.map(partial(inspect_chunk, data, object_masks), chunks):
            facts |= chunk
            progress(len(facts), len(unique))
    return facts


def inspect_chunk(data: ItemDataModule, object_masks: bool, items: list[Item]) -> dict[str, Facts]:
    return {item.name: inspect_item(data, item, object_masks) for item in items}


def inspect_item(data: ItemDataModule, item: Item, object_masks: bool) -> Facts:
    """Opens one item and measures it; ``error`` is the only key if it can't be used."""
    try:
        signal, target = data.load(item)
    except InputError as error:
        return {"error": str(error)}
    counts = TARGETS[data.target].counts(target, data.spec.num_classes)
    facts: Facts = {
        "class_counts": Counter({label: number for label, number in enumerate(counts.tolist()) if number}),
        "digest": digest(signal),
        "thumbnail": thumbnail(signal),
    }
    facts |= audio.waveform_facts(signal) if data.ndim == 1 else images.pixel_facts(signal)
    if files := data.files(item):
        facts |= {1: audio, 2: images, 3: videos}[data.ndim].header_facts(files[0])
    if object_masks:
        facts |= masks.object_facts([read_mask(file) for file in files[1:]])
    return facts


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
