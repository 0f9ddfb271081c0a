"""Opens every item once, on all cores, and measures it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datamodules.base.items import ItemDataModule
from datamodules.decoding.mask import read_mask
from datamodules.splits.splits import Item
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS
from foundation.threads import map_in_threads
from resmet.data_checks.checks import audio, images, masks, videos
from resmet.data_checks.model.context import Facts

CHUNK = 32  # items per job: a job of its own for a small item costs more than to open it
SMALL = 1 << 16  # values of a signal up to which several are measured at once
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
    for chunk in map_in_threads(partial(inspect_chunk, data, object_masks), chunks):
        facts |= chunk
        progress(len(facts), len(unique))
    return facts


def inspect_chunk(data: ItemDataModule, object_masks: bool, items: list[Item]) -> dict[str, Facts]:
    """Opens and measures items; ``error`` is the only key of one that can't be used. Small signals of one shape share their operations."""
    facts: dict[str, Facts] = {}
    batches: dict[torch.Size, dict[str, Tensor]] = defaultdict(dict)
    for item in items:
        try:
            signal, target = data.load(item)
        except InputError as error:
            facts[item.name] = {"error": str(error)}
            continue
        facts[item.name] = measure(data, item, signal, target, object_masks)
        if signal.numel() > SMALL:
            facts[item.name]["thumbnail"] = thumbnails(signal[None])[0]
        else:
            batches[signal.shape][item.name] = signal
    for batch in batches.values():
        for name, thumbnail in zip(batch, thumbnails(torch.stack([*batch.values()])), strict=True):
            facts[name]["thumbnail"] = thumbnail
    return facts


def measure(data: ItemDataModule, item: Item, signal: Tensor, target: Any, object_masks: bool) -> Facts:
    """Returns everything but the thumbnail."""
    counts = TARGETS[data.target].counts(target, data.spec.num_classes)
    facts: Facts = {
        "class_counts": Counter({label: number for label, number in enumerate(counts.tolist()) if number}),
        "digest": signal_hash(signal),
    }
    facts |= audio.waveform_facts(signal) if data.ndim == 1 else images.pixel_facts(signal)
    if files := data.files(item):
        facts |= {1: audio, 2: images, 3: videos}[data.ndim].header_facts(files[0])
    if object_masks:
        facts |= masks.object_facts([read_mask(file) for file in files[1:]])
    return facts


def thumbnails(signals: Tensor) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in 0..255 -> gray (N, SIDE, SIDE); waveforms (N, C, T) in -1..1 -> spectrograms (N, BANDS, FRAMES)."""
    gray = signals[:, 0].float() if signals.shape[1] == 1 else signals.float().mean(1)
    images, size = (spectrograms(gray), (BANDS, FRAMES)) if gray.ndim == 2 else (gray, (SIDE, SIDE))
    resized = functional.interpolate(images[:, None], size, mode="bilinear", antialias=True)
    return resized[:, 0].round().to(torch.uint8).numpy()


def spectrograms(waveforms: Tensor) -> Tensor:
    """Waveforms (N, T) -> loudness (N, bands, `FRAMES`) in 0..255: the upper `DYNAMIC_RANGE` decibels in logarithmic bands.

    They start at the onset, so that leading silence makes no difference; the T samples are divided into `FRAMES`.
    """
    hop = max(1, waveforms.shape[1] // FRAMES)
    window = max(4, 1 << (4 * hop - 1).bit_length())
    length = hop * (FRAMES - 1) + window // 2
    steps = onsets(waveforms, hop)[:, None] + torch.arange(length)
    waveforms = functional.pad(waveforms, (hop, max(0, length - hop))).gather(1, steps)
    waveforms = functional.pad(waveforms, (window // 2, 0))
    spectrum = torch.stft(waveforms, window, hop, window=torch.hann_window(window), center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    decibels = 10 * torch.log10(band_weights(power.shape[1]) @ power + 1e-12)
    return (decibels - decibels.amax((1, 2), keepdim=True) + DYNAMIC_RANGE).clamp(min=0) * (255 / DYNAMIC_RANGE)


@cache
def band_weights(frequencies: int) -> Tensor:
    """Returns weights (bands, frequencies) that average the frequencies of each of up to `BANDS` logarithmic bands."""
    edges = np.unique(np.geomspace(max(1, frequencies // 100), frequencies, BANDS + 1).round().astype(int))
    weights = torch.zeros(len(edges) - 1, frequencies)
    for band, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        weights[band, low:high] = 1 / float(high - low)
    return weights


def onsets(waveforms: Tensor, hop: int) -> Tensor:
    """Waveforms (N, T) -> (N,): the samples at which the power over two hops first exceeds `ONSET` of its maximum."""
    energy = functional.pad(waveforms.double() ** 2, (hop + 1, hop)).cumsum(1)
    power = energy[:, 2 * hop :] - energy[:, : -2 * hop]
    return (power >= ONSET * power.amax(1, keepdim=True)).int().argmax(1)


def signal_hash(signal: Tensor) -> str:
    """Returns a hash of a signal's shape and values."""
    hasher = hashlib.sha1(str(signal.shape).encode(), usedforsecurity=False)  # twice as fast as blake2b
    hasher.update(signal.contiguous().numpy().data)
    return hasher.hexdigest()
