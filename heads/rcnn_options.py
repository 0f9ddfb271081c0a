"""The sizes of Faster R-CNN's head, chosen from the width of the backbone and the number and size of the objects where they are not given.

A pyramid of 256 channels, and 512 sampled proposals per image through layers of 1,024, were published for a ResNet-50 on COCO, on eight
GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foundation.structures import InputError, require_range

STRIDES = (4, 8, 16, 32)

COARSE_SIDE = 22.0
"""Pixels of a small object's side above which the level of stride 4 is left out: it is then about three cells of stride 8 wide.

RetinaNet (arXiv:1708.02002) starts at stride 8, too. Stride 4 has three quarters of all cells, and as much of a step's time.
"""

PUBLISHED_ANCHOR = 8.0


@dataclass(frozen=True)
class FPNOptions:
    """The feature pyramid.

    Args:
        out_channels: Channels of every level; None takes the backbone's at the stride nearest to 8, within 32 to 256.
        strides: Strides of the levels; None is 4, 8, 16 and 32, without 4 where small objects are 22 pixels wide or more.
        extra_pool_level: Whether there is one more level, of twice the last stride, for the anchors of large objects.

    Raises:
        InputError: If `out_channels` is below 1, or `strides` is empty or has a stride twice.
    """

    out_channels: int | None = None
    strides: Sequence[int] | None = None
    extra_pool_level: bool = False

    def __post_init__(self) -> None:
        if self.out_channels is not None:
            require_range("task.head.fpn.out_channels", self.out_channels, 1)
        if self.strides is not None and (not self.strides or len(set(self.strides)) < len(self.strides)):
            raise InputError(
                "config.wrong_strides",
                f"task.head.fpn.strides must have at least one stride, and none twice, got {list(self.strides)}",
            )


@dataclass(frozen=True)
class AnchorOptions:
    """The anchors, one side per level.

    Args:
        size: Side of an anchor in units of its level's stride; None fits it to the boxes, from 4 to 8.
        aspect_ratios: Height to width.

    Raises:
        InputError: If a value is not above 0, or there is no aspect ratio.
    """

    size: float | None = None
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if self.size is not None:
            require_range("task.head.anchors.size", self.size, 0, above=True)
        for ratio in self.aspect_ratios:
            require_range("task.head.anchors.aspect_ratios", ratio, 0, above=True)
        if not self.aspect_ratios:
            raise InputError(
                "config.wrong_length", "task.head.anchors.aspect_ratios must have at least one value, got none"
            )


@dataclass(frozen=True)
class SamplingOptions:
    """How many proposals of an image there are.

    Args:
        post_nms_top_n: Proposals after non-maximum suppression; None is 4 times `batch_size_per_image`.
        batch_size_per_image: Proposals that a training step samples; None is 6 for every object of a full image, within 64 to 512.

    Raises:
        InputError: If one is below 1.
    """

    post_nms_top_n: int | None = None
    batch_size_per_image: int | None = None

    def __post_init__(self) -> None:
        for name in ("post_nms_top_n", "batch_size_per_image"):
            if (value := getattr(self, name)) is not None:
                require_range(f"task.head.sampling.{name}", value, 1)


def resolve_fpn(given: FPNOptions, channels: Mapping[int, int], box_side_quantiles: Sequence[float]) -> FPNOptions:
    """Returns the options without None, for a backbone of {stride: channels} and `Spec.box_side_quantiles`."""
    width = channels[min(channels, key=lambda stride: abs(math.log2(stride) - 3))]
    coarse = bool(box_side_quantiles) and box_side_quantiles[0] >= COARSE_SIDE
    return replace(
        given,
        out_channels=min(256, max(32, width)) if given.out_channels is None else given.out_channels,
        strides=tuple((STRIDES[1:] if coarse else STRIDES) if given.strides is None else given.strides),
    )


def resolve_anchors(given: AnchorOptions, strides: Sequence[int], box_side_quantiles: Sequence[float]) -> AnchorOptions:
    """Returns the options without None.

    The anchors of the middle level are as large as boxes in the middle of their range; the published size holds for a wide range.
    """
    if given.size is not None:
        return given
    sides = box_side_quantiles
    if not sides or not 0 < sides[0] <= sides[-1] < sides[0] * 2 ** len(strides):
        return replace(given, size=PUBLISHED_ANCHOR)
    middle = math.exp(sum(map(math.log, strides)) / len(strides))
    size = min(PUBLISHED_ANCHOR, max(PUBLISHED_ANCHOR / 2, math.sqrt(sides[0] * sides[-1]) / middle))
    return replace(given, size=round(size, 1))


def resolve_sampling(given: SamplingOptions, objects_per_image: int) -> SamplingOptions:
    """Returns the options without None: six proposals are sampled per object of a full image, a quarter of which may be positive."""
    sampled = given.batch_size_per_image or min(512, max(64, 6 * (objects_per_image or 21)))
    return replace(given, batch_size_per_image=sampled, post_nms_top_n=given.post_nms_top_n or 4 * sampled)
