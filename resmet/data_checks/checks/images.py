"""Checks of images: constant ones, alpha channels, gray content, orientation, values of more than 8 bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.decoding.image import decode, read_header
from foundation.structures import InputError, pluralize
from resmet.data_checks.model.context import CheckContext, Facts
from resmet.data_checks.model.finding import Finding, found, most_common

MIN_WINDOW_USE = 0.25  # fraction of the window that nearly all values should cover
NEARLY_ALL = (0.001, 0.999)  # quantiles
MAX_PILLOW_CHANNELS = 4  # of files with more, Pillow logs a warning


def header_facts(path: Path) -> Facts:
    """Reads an image file's header, its alpha channel, and the range of values with more than 8 bits."""
    facts: Facts = {}
    with contextlib.suppress(InputError):
        header = read_header(path)
        height, width = header.upright_size
        facts["size"], facts["bits"], facts["orientation"] = (width, height), header.bits, header.orientation
        if header.bits > 8:
            values = np.asarray(decode(path, 1)[0], np.float64)
            values = values[np.isfinite(values)]
            facts["value_range"] = tuple(np.quantile(values, (0, *NEARLY_ALL, 1)).tolist()) if values.size else ()
        if header.channels > MAX_PILLOW_CHANNELS:
            return facts
    with contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as image:
        facts["file_format"], facts["mode"] = image.format or "", image.mode
        if image.mode in ("RGBA", "LA"):
            lowest, highest = image.getchannel("A").getextrema()
            facts["alpha"] = (int(lowest), int(highest))  # type: ignore[arg-type]  # a single channel's are numbers
    return facts


def pixel_facts(image: Tensor) -> Facts:
    """Measures a decoded image (C, H, W)."""
    facts: Facts = {"constant": torch.equal(image, image[:, :1, :1].expand_as(image)), "shape": tuple(image.shape)}
    if image.shape[0] == 3:
        facts["gray"] = torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    return facts


def describe(context: CheckContext) -> list[str]:
    """Describes sizes, unusual numbers of channels, color modes and file formats."""
    if context.modality != "image" or not context.usable:
        return []
    facts = [facts for _, _, facts in context.usable]
    parts = [describe_sizes([f.get("size") or (f["shape"][2], f["shape"][1]) for f in facts])]
    if any(f["shape"][0] not in (1, 3) for f in facts):
        parts.append(most_common(f"{f['shape'][0]} channels" for f in facts))
    parts.append(most_common(f["mode"] for f in facts if "mode" in f))
    parts.append(most_common(f["file_format"] for f in facts if "file_format" in f))
    return ["; ".join(part for part in parts if part)]


def describe_sizes(sizes: list[tuple[int, int]]) -> str:
    """Describes (width, height) pairs: each of them if they are few, else their ranges."""
    if len(set(sizes)) <= 3:
        return most_common(f"{width}x{height} pixels" for width, height in sizes)
    widths, heights = (sorted(size[axis] for size in sizes) for axis in (0, 1))
    wide, high = (f"{sides[0]} to {sides[-1]} (median {sides[len(sides) // 2]})" for sides in (widths, heights))
    return f"{len(set(sizes))} sizes, {wide} pixels wide, {high} high"


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds constant images, alpha channels, gray color files, EXIF rotation, and problems of more than 8 bits."""
    if context.modality != "image":
        return
    yield from windows(context)
    yield from mixed_depth(context)
    constant, remedy = where(context, lambda facts: facts["constant"]), "look at them; remove those that show nothing"
    yield from found("images.constant", "warning", constant, "image", "of a single color", remedy)
    yield from alpha_channels(context)
    if gray := where(context, lambda facts: facts.get("gray", False) and facts.get("mode") != "P"):
        everywhere = len(gray) == len(context.usable)
        message = f"{'all' if everywhere else f'{len(gray):,} of {len(context.usable):,}'} images are color files with gray content"
        remedy = "data.channels=1 reads them as gray, which is faster" if everywhere else ""
        yield Finding("images.gray_content", "note", message, remedy=remedy)
    rotated = where(context, lambda facts: facts.get("orientation", 1) != 1)
    yield from found("images.exif_orientation", "note", rotated, "image", "rotated by the EXIF orientation")


def where(context: CheckContext, condition: Callable[[Facts], bool]) -> tuple[str, ...]:
    """Returns the items whose facts meet a condition."""
    return tuple(context.relative(item.name) for _, item, facts in context.usable if condition(facts))


def alpha_channels(context: CheckContext) -> Iterator[Finding]:
    """Finds alpha channels, which are dropped."""
    if opaque := where(context, lambda facts: facts.get("alpha") == (255, 255)):
        message = f"{pluralize(len(opaque), 'image')} with an alpha channel of 255 everywhere, which is dropped"
        yield Finding("images.opaque_alpha", "note", message)
    transparent = where(context, lambda facts: facts.get("alpha", (255, 255))[0] < 255)
    what = "with transparent pixels; the alpha channel is dropped"
    remedy = "flatten them if what lies below the transparent pixels must not be seen"
    yield from found("images.transparency", "note", transparent, "image", what, remedy)


def windows(context: CheckContext) -> Iterator[Finding]:
    """Finds images of more than 8 bits with values outside the window, and windows that few values stretch."""
    ranges = value_ranges(context)
    window = context.data.spec.window if context.data else ()
    if not ranges or not window:
        return
    shown = f"window {window[0]:g} to {window[1]:g}"
    clipped = (name for name, r in ranges.items() if r[1] < window[0] or r[2] > window[1])
    what, remedy = f"with values outside the {shown}, which are clipped", "set another data.window"
    yield from found("images.clipped_values", "warning", clipped, "image", what, remedy)
    if narrow := narrow_window(context):
        low, high = narrow
        margin = high - low
        beyond = tuple(name for name, r in ranges.items() if r[3] > high + margin or r[0] < low - margin)
        rest = f"a small part of the {shown}: few gray levels are left for them"
        message = f"99.9 % of the values lie in {low:g} to {high:g}, {rest}"
        yield Finding("images.wide_window", "warning", message, beyond, f"data.window=[{low:g},{high:g}]")


def value_ranges(context: CheckContext) -> dict[str, tuple[float, ...]]:
    """Returns the `value_range` of every image with more than 8 bits."""
    return {context.relative(item.name): r for _, item, facts in context.usable if (r := facts.get("value_range"))}


def narrow_window(context: CheckContext) -> tuple[float, ...]:
    """Returns the window of nearly all values, if it is a small part of the one in use; else ()."""
    ranges = value_ranges(context).values()
    window = context.data.spec.window if context.data else ()
    if not ranges or not window:
        return ()
    low, high = min(r[1] for r in ranges), max(r[2] for r in ranges)
    return (low, high) if high - low < MIN_WINDOW_USE * (window[1] - window[0]) else ()


def mixed_depth(context: CheckContext) -> Iterator[Finding]:
    """Finds 8-bit images among deeper ones: the window applies only to the deeper ones."""
    bits = {context.relative(item.name): facts["bits"] for _, item, facts in context.usable if "bits" in facts}
    shallow = tuple(name for name, number in bits.items() if number <= 8)
    deep = tuple(name for name, number in bits.items() if number > 8)
    if shallow and deep:
        what = "data.window applies only to the latter, so the same brightness becomes different values"
        message = f"{pluralize(len(shallow), 'image')} of 8 bits among {len(deep):,} of more: {what}"
        fewer, remedy = min(shallow, deep, key=len), "convert all images to one bit depth"
        yield Finding("images.mixed_depth", "warning", message, fewer, remedy)
