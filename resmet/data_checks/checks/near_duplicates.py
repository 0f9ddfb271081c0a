"""Finds near-duplicates: a perceptual hash proposes pairs of items, their thumbnails decide.

Source: Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions" (the DCT hash). Audio is hashed
by its spectrogram, after Haitsma and Kalker, 2002, "A highly robust audio fingerprinting system".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_SIDE = 8  # side of the block of low frequencies that makes the hash
MAX_DISTANCE = 6  # bits of 63 in which the hashes of near-duplicates may differ
MIN_CONTRAST = 1.5  # standard deviation in gray levels below which a thumbnail has nothing to compare
BLOCK = 512  # thumbnails that are compared at once; their products fit in the cache

Thumbnails = NDArray[np.uint8]
Hashes = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Criterion:
    """What counts as a near-duplicate."""

    max_residual: float  # largest part of a thumbnail's contrast that the other one does not explain, 0 to 1
    shifts: tuple[int, ...] = (0,)  # steps along the last axis by which one is moved; with every step its negative
    mean_axes: tuple[int, ...] = (1, 2)  # over which the mean is subtracted
    mirrored: bool = False  # one is flipped left to right


IMAGES = Criterion(0.06)
"""JPEG compression of quality 40 leaves a residual of 0.03."""

MIRRORED = Criterion(0.06, mirrored=True)
"""Different images of symmetric things, such as chests and digits, leave a residual of 0.23 at least."""

AUDIO = Criterion(0.095, tuple(range(-4, 5)), (2,))
"""Ogg and MP3 leave 0.03 and 0.04, two takes of one digit by one speaker 0.107 at least (of 3,000 recordings). The mean
of every band is subtracted: it is the spectrum of steady noise, which is alike in all recordings of one place."""


def perceptual_hashes(thumbnails: Thumbnails) -> Hashes:
    """Thumbnails (N, H, W) -> hashes (N, 63) of -1 and 1: which low frequencies exceed the thumbnail's median."""
    rows, columns = map(dct_matrix, thumbnails.shape[1:])
    coefficients = rows @ (thumbnails.astype(np.float32) @ columns.T)
    low = coefficients.reshape(len(thumbnails), -1)[:, 1:]  # the first is the brightness
    return np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32)


def dct_matrix(side: int) -> NDArray[np.float32]:
    """Returns the rows (HASH_SIDE, side) of the DCT that are the low frequencies; scipy has it too, at 0.3 s of import."""
    return np.cos(np.pi / side * np.outer(np.arange(HASH_SIDE), np.arange(side) + 0.5)).astype(np.float32)


def residuals(first: Thumbnails, second: Thumbnails, mean_axes: tuple[int, ...] = (1, 2)) -> NDArray[np.float32]:
    """Pairs of thumbnails (K, H, W) -> (K,): the part of one that a linear function of the other does not explain.

    0 for thumbnails that are equal up to brightness and contrast, 1 for uncorrelated ones.
    """
    correlation = np.einsum("khw,khw->k", normalized(first, mean_axes), normalized(second, mean_axes))
    return np.sqrt(np.clip(1 - np.clip(correlation, 0, 1) ** 2, 0, 1))


def normalized(thumbnails: Thumbnails, mean_axes: tuple[int, ...]) -> NDArray[np.float32]:
    """Thumbnails (K, H, W) -> mean 0 over `mean_axes` and norm 1; those without contrast become 0."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=mean_axes, keepdims=True)
    norms = np.sqrt(np.einsum("khw,khw->k", values, values))[:, None, None]
    values /= np.maximum(norms, 1e-6)
    values[norms[:, 0, 0] <= MIN_CONTRAST * np.sqrt(np.prod(values.shape[1:]))] = 0
    return values


def near_pairs(thumbnails: Thumbnails, splits: Sequence[int], criterion: Criterion = IMAGES) -> list[tuple[int, int]]:
    """Thumbnails (N, H, W) and the number of every item's split -> near-duplicates in different splits: indices (i, j), i < j, sorted."""
    order = np.argsort(splits, kind="stable")
    ranks, sorted_thumbnails = np.asarray(splits)[order], thumbnails[order]
    hashes = perceptual_hashes(sorted_thumbnails)
    flipped = np.ascontiguousarray(sorted_thumbnails[:, :, ::-1]) if criterion.mirrored else sorted_thumbnails
    pairs: set[tuple[int, int]] = set()
    for steps in criterion.shifts:
        moved = shifted(flipped, steps) if steps else flipped
        moved_hashes = perceptual_hashes(moved) if steps or criterion.mirrored else hashes
        for i, j in candidates(moved_hashes, hashes, ranks):
            near = residuals(moved[i], sorted_thumbnails[j], criterion.mean_axes) < criterion.max_residual
            pairs |= {
                (min(pair), max(pair)) for pair in zip(order[i[near]].tolist(), order[j[near]].tolist(), strict=True)
            }
    return sorted(pairs)


def shifted(thumbnails: Thumbnails, steps: int) -> Thumbnails:
    """Thumbnails (N, H, W) moved by `steps` along W and padded with 0."""
    moved = np.roll(thumbnails, steps, axis=2)
    moved[:, :, (slice(None, steps) if steps >= 0 else slice(steps, None))] = 0
    return moved


def candidates(moved: Hashes, hashes: Hashes, ranks: NDArray[np.int_]) -> Iterator[tuple[Indices, Indices]]:
    """Yields indices (i, j), ranks[i] < ranks[j], at which ``moved[i]`` and ``hashes[j]``, both (N, 63), differ in few bits.

    The `ranks` are the splits, ascending. The dot product of two hashes is the number of equal bits minus that of different bits.
    """
    least = hashes.shape[1] - 2 * MAX_DISTANCE
    for start in range(0, len(hashes), BLOCK):
        later_splits = int(np.searchsorted(ranks, ranks[start], side="right"))
        for other in range(later_splits, len(hashes), BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            near = moved[rows] @ hashes[columns].T >= least
            if ranks[rows][-1] >= ranks[other]:  # a block at the border of two splits
                near &= ranks[rows, None] < ranks[None, columns]
            i, j = np.divmod(np.flatnonzero(near), near.shape[1])
            for part in range(0, len(i), BLOCK):
                yield start + i[part : part + BLOCK], other + j[part : part + BLOCK]
