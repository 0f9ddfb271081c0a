"""Items that are the same, or nearly: a perceptual hash proposes, small pictures decide.

Source: Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions" (the DCT hash). A sound is hashed
by its spectrogram, after Haitsma and Kalker, 2002, "A highly robust audio fingerprinting system".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

SIDE = 32  # of the small picture that stands for an image, in pixels
BANDS, TIMES = 16, 64  # of the small spectrogram that stands for a sound
BITS = 8  # side of the block of low frequencies that makes the hash
FAR = 6  # bits of 63 in which the hashes of near-identical items may differ
FLAT = 1.5  # contrast, in grey levels, below which there is nothing to compare
BLOCK = 4096  # items compared at once

Hashes = NDArray[np.float32]


@dataclass(frozen=True)
class Measure:
    """What makes near-twins.

    Attributes:
        alike: What a picture may share with no near-twin, as a part of its contrast.
        shifts: Steps along the second axis by which one may be moved to meet the other; with every step its negative.
        axes: The axes over which the mean is taken away: what is left is compared.
        mirrored: Whether one is turned over, left to right, before it is compared.
    """

    alike: float
    shifts: tuple[int, ...] = (0,)
    axes: tuple[int, ...] = (1, 2)
    mirrored: bool = False


IMAGES = Measure(0.06)
"""A JPEG of quality 40 leaves 0.03."""

MIRRORED = Measure(0.06, mirrored=True)
"""Of symmetric things, such as chests and digits, two that are strangers leave 0.23 at least."""

SOUNDS = Measure(0.095, tuple(range(-4, 5)), (2,))
"""Ogg and MP3 leave 0.03 and 0.04, two takes of one digit by one speaker 0.107 at least (of 3,000 recordings). Every band's
mean is taken away: it is how a steady noise sounds, whoever records it."""


def hashes(thumbs: NDArray[np.uint8]) -> Hashes:
    """Small pictures (N, SIDE, SIDE) -> hashes (N, 63) of -1 and 1: which low frequencies are above the picture's median."""
    waves = dctn(thumbs.astype(np.float32), axes=(1, 2), norm="ortho")[:, :BITS, :BITS]
    low = waves.reshape(len(thumbs), -1)[:, 1:]  # the first is the brightness
    return np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32)


def rest(a: NDArray[np.uint8], b: NDArray[np.uint8], axes: tuple[int, ...] = (1, 2)) -> NDArray[np.float32]:
    """Pairs of small pictures (K, H, W) -> (K,): how much of each remains after its twin, up to light and contrast.

    0 for pictures that are equal but for brightness and contrast, 1 for pictures that have nothing in common.
    """
    first, second = (centred(thumbs, axes) for thumbs in (a, b))
    agreement = (first * second).sum(axis=(1, 2))
    return np.sqrt(np.clip(1 - np.clip(agreement, 0, 1) ** 2, 0, 1))


def centred(thumbs: NDArray[np.uint8], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """Pictures (K, H, W) of mean 0 over `axes` and length 1; flat ones are 0."""
    wave = thumbs.astype(np.float32)
    wave -= wave.mean(axis=axes, keepdims=True)
    length = np.sqrt((wave**2).sum(axis=(1, 2), keepdims=True))
    return np.where(length > FLAT * SIDE, wave / np.maximum(length, 1e-6), 0)


def near_pairs(thumbs: NDArray[np.uint8], splits: Sequence[int], measure: Measure = IMAGES) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of near-identical items that lie in different splits.

    Args:
        thumbs: Small pictures (N, H, W).
        splits: The split's number of every item.
        measure: What makes near-twins.
    """
    where = np.asarray(splits)
    marks = hashes(thumbs)
    turned = np.ascontiguousarray(thumbs[:, :, ::-1]) if measure.mirrored else thumbs
    found: set[tuple[int, int]] = set()
    for shift in measure.shifts:
        moved = shifted(turned, shift)
        for i, j in candidates(hashes(moved) if shift or measure.mirrored else marks, marks, where):
            same = rest(moved[i], thumbs[j], measure.axes) < measure.alike
            found |= set(zip(i[same].tolist(), j[same].tolist(), strict=True))
    return sorted(found)


def shifted(thumbs: NDArray[np.uint8], shift: int) -> NDArray[np.uint8]:
    """Pictures (N, H, W) moved by `shift` steps along W; what comes in is 0."""
    moved = np.roll(thumbs, shift, axis=2)
    moved[:, :, (slice(None, shift) if shift >= 0 else slice(shift, None))] = 0
    return moved


def candidates(
    moved: Hashes, marks: Hashes, where: NDArray[np.int_]
) -> Iterator[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Index pairs i < j in different splits where the hash `moved[i]` differs from `marks[j]` in few bits, block by block."""
    least = marks.shape[1] - 2 * FAR  # the product of two hashes is bits that agree minus bits that differ
    for start in range(0, len(marks), BLOCK):
        for other in range(start, len(marks), BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            if len(set(where[rows]) | set(where[columns])) < 2:
                continue
            close = (moved[rows] @ marks[columns].T >= least) & (where[rows, None] != where[None, columns])
            i, j = np.nonzero(np.triu(close, 1) if start == other else close)
            for part in range(0, len(i), BLOCK):
                yield start + i[part : part + BLOCK], other + j[part : part + BLOCK]
