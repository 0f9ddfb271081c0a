"""TIFF files beyond 8-bit grayscale and RGB: more bits per sample, more channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from datamodules.decoding.exif import Header, exif_transpose_array

ORIENTATION = 274
MAX_BYTES = 1 << 32
"""Bytes of the first series of a TIFF file above which it is refused."""


def decode_high_bit_depth(path: Path, channels: int) -> np.ndarray | None:
    """Returns a TIFF file's first page if Pillow would reduce its depth or can't hold its channels, else None.

    If there are exactly `channels` grayscale pages, they are the channels.
    """
    with TiffFile(path) as file:
        axes, page, sides = file.series[0].axes, file.pages.first, file.series[0].shape
        if len(axes) == 3 and axes[1:] == "YX" and sides[0] == channels and channels not in (1, 3):
            axes = "CYX"
        if not is_high_bit_depth(axes, page):
            return None
        check_size(file.series[0])
        array = file.series[0].asarray()
    for axis in reversed([i for i, name in enumerate(axes) if name not in "YXSC"]):
        array = array.take(0, axis=axis)  # depth, time, pages
    remaining = [name for name in axes if name in "YXSC"]
    array = np.moveaxis(array, [remaining.index("Y"), remaining.index("X")], [0, 1])
    array = array.reshape(*array.shape[:2], -1)
    if has_alpha(page):
        array = array[..., :-1]
    tag = page.tags.get(ORIENTATION)
    array = exif_transpose_array(array, tag.value if tag else 1)
    return array[..., 0] if array.shape[2] == 1 else array


def check_size(series: Any) -> None:
    """Raises ValueError for a size that a few bytes of header can claim, before memory is allocated; Pillow does so for its formats."""
    if series.nbytes > MAX_BYTES:
        sides = " x ".join(map(str, series.shape))
        raise ValueError(f"its header states {sides} samples, {series.nbytes / 2**30:.3g} GB")


def is_high_bit_depth(axes: str, page: Any) -> bool:
    """Whether a TIFF file holds more than 8-bit grayscale, palette, RGB or CMYK, alpha not counted."""
    kind = page.photometric.value  # 0 and 1 are grayscale, 2 is RGB
    if kind not in (0, 1, 2):
        return page.samplesperpixel > 4
    usual = {0: 1, 1: 1, 2: 3}[kind] + has_alpha(page)
    return "C" in axes or page.bitspersample > 8 or page.samplesperpixel > usual


def has_alpha(page: Any) -> bool:
    """Whether a TIFF page's last sample is opacity (associated or not), rather than another channel."""
    return bool(page.extrasamples) and page.extrasamples[-1] in (1, 2)


def read_header_high_bit_depth(path: Path) -> Header | None:
    """Returns the header of a TIFF file that Pillow can't hold, else None."""
    with TiffFile(path) as file:
        series, page = file.series[0], file.pages.first
        if not is_high_bit_depth(series.axes, page):
            return None
        check_size(series)
        sides = dict(zip(series.axes, series.shape, strict=True))
        channels = sides.get("S", 1) * sides.get("C", 1) - has_alpha(page)
        pages = math.prod(length for axis, length in sides.items() if axis not in "YXSC")
        tag = page.tags.get(ORIENTATION)
        return Header(sides["X"], sides["Y"], tag.value if tag else 1, channels, page.bitspersample, pages)
