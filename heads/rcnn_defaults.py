"""How large the parts of a detection head are where nobody said so: as the backbone is wide, and the objects many and large.

A pyramid of 256 channels whose 512 proposals an image go through layers of 1,024 was published for a ResNet-50 on COCO, on eight GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STRIDES = (4, 8, 16, 32)

FINEST = 22.0
"""Pixels of a small object's side from which the level of stride 4 is not needed: it is about three cells of stride 8 wide.

RetinaNet (arXiv:1708.02002) begins at stride 8, too. Stride 4 has three quarters of all cells, and takes as much of a step's time.
"""

PUBLISHED_ANCHOR = 8.0


@dataclass(frozen=True)
class Sizes:
    """What was asked for or decided.

    Attributes:
        width: Channels of the pyramid.
        hidden: Width of the two layers that judge a proposal.
        strides: The levels used.
        anchor: Side of an anchor in units of its level's stride.
        proposals: Proposals kept an image.
        sampled: Proposals that a training step judges, an image.
    """

    width: int
    hidden: int
    strides: tuple[int, ...]
    anchor: float
    proposals: int
    sampled: int


def decide(
    channels: Mapping[int, int],
    objects_per_image: int,
    quantiles: Sequence[float],
    width: int | None = None,
    hidden: int | None = None,
    strides: Sequence[int] | None = None,
    anchor: float | None = None,
    proposals: int | None = None,
    sampled: int | None = None,
) -> Sizes:
    """`Sizes` with what is None decided.

    The pyramid is as wide as the backbone's level nearest to stride 8, within 32 to 256, the layers behind it four times as wide. Six
    proposals are judged for every object that full images hold (a quarter of them may be objects), within 64 to 512, and four times
    as many are kept, as published.

    Args:
        channels: {stride: channels} of the backbone.
        objects_per_image: As in `structures.Spec`.
        quantiles: `Spec.box_side_quantiles`.
        width, hidden, strides, anchor, proposals, sampled: As in `Sizes`.
    """
    middle = channels[min(channels, key=lambda stride: abs(math.log2(stride) - 3))]
    width = min(256, max(32, middle)) if width is None else width
    sampled = min(512, max(64, 6 * (objects_per_image or 21))) if sampled is None else sampled
    levels = tuple(strides if strides is not None else levels_for(quantiles))
    return Sizes(
        width,
        4 * width if hidden is None else hidden,
        levels,
        anchor_for(quantiles, levels) if anchor is None else anchor,
        4 * sampled if proposals is None else proposals,
        sampled,
    )


def levels_for(quantiles: Sequence[float]) -> tuple[int, ...]:
    """All of `STRIDES`, without the finest where objects are large enough."""
    return STRIDES[1:] if quantiles and quantiles[0] >= FINEST else STRIDES


def anchor_for(quantiles: Sequence[float], levels: Sequence[int]) -> float:
    """An anchor that lies in the middle of the boxes' range, as the levels in the middle of theirs; the published one for a wide range."""
    if not quantiles or not levels or not 0 < quantiles[0] <= quantiles[-1] < quantiles[0] * 2 ** len(levels):
        return PUBLISHED_ANCHOR
    middle = math.exp(sum(map(math.log, levels)) / len(levels))
    return round(min(PUBLISHED_ANCHOR, max(PUBLISHED_ANCHOR / 2, math.sqrt(quantiles[0] * quantiles[-1]) / middle)), 1)
