"""Items that are the same, or nearly: a perceptual hash proposes, small pictures decide.

Source: Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions" (the DCT hash). A sound is hashed
by its spectrogram, after Haitsma and Kalker, 2002, "A highly robust audio fingerprinting system".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

SIDE = 32  # of the small picture that stands for an item, in pixels
BITS = 8  # side of the block of low frequencies that makes the hash
FAR = 6  # bits of 63 in which the hashes of near-identical items may differ
ALIKE = 0.06  # what a picture shares with no near-twin, as a part of its contrast; a JPEG of quality 40 leaves 0.03
FLAT = 1.5  # contrast, in grey levels, below which there is nothing to compare
BLOCK = 4096  # items compared at once

Hashes = NDArray[np.float32]


def hashes(thumbs: NDArray[np.uint8]) -> Hashes:
    """Small pictures (N, SIDE, SIDE) -> hashes (N, 63) of -1 and 1: which low frequencies are above the picture's median."""
    waves = dctn(thumbs.astype(np.float32), axes=(1, 2), norm="ortho")[:, :BITS, :BITS]
    low = waves.reshape(len(thumbs), -1)[:, 1:]  # the first is the brightness
    return np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32)


def rest(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pairs of small pictures (K, SIDE, SIDE) -> (K,): how much of each remains after its twin, up to light and contrast.

    0 for pictures that are equal but for brightness and contrast, 1 for pictures that have nothing in common.
    """
    first, second = (centred(thumbs) for thumbs in (a, b))
    agreement = (first * second).sum(axis=(1, 2))
    return np.sqrt(np.clip(1 - np.clip(agreement, 0, 1) ** 2, 0, 1))


def centred(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures of mean 0 and length 1; flat ones are 0."""
    wave = thumbs.astype(np.float32)
    wave -= wave.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((wave**2).sum(axis=(1, 2), keepdims=True))
    return np.where(length > FLAT * SIDE, wave / np.maximum(length, 1e-6), 0)


def near_pairs(thumbs: NDArray[np.uint8], splits: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of near-identical items that lie in different splits.

    Args:
        thumbs: Small pictures (N, SIDE, SIDE).
        splits: The split's number of every item.
    """
    where = np.asarray(splits)
    marks = hashes(thumbs)
    found: list[tuple[int, int]] = []
    for i, j in candidates(marks, where):
        same = rest(thumbs[i], thumbs[j]) < ALIKE
        found += zip(i[same].tolist(), j[same].tolist(), strict=True)
    return sorted(found)


def candidates(marks: Hashes, where: NDArray[np.int_]) -> Iterator[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Index pairs i < j in different splits whose hashes differ in few bits, block by block."""
    least = marks.shape[1] - 2 * FAR  # the product of two hashes is bits that agree minus bits that differ
    for start in range(0, len(marks), BLOCK):
        for other in range(start, len(marks), BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            if len(set(where[rows]) | set(where[columns])) < 2:
                continue
            close = (marks[rows] @ marks[columns].T >= least) & (where[rows, None] != where[None, columns])
            i, j = np.nonzero(np.triu(close, 1) if start == other else close)
            for part in range(0, len(i), BLOCK):
                yield start + i[part : part + BLOCK], other + j[part : part + BLOCK]
