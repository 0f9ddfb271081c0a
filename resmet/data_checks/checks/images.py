"""Pictures: what a file says of itself, and what a person should know about all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from datamodules.decoding.image import decode, read_header
from foundation.structures import InputError
from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count, frequent
from resmet.data_checks.run.result_cache import Facts

NARROW = 0.25  # share of the window that nearly all values lie in, below which the rest is wasted on a few
NEARLY_ALL = (0.001, 0.999)
MOST_CHANNELS = 4  # that Pillow can hold: of files with more it complains on the terminal


def file_facts(path: Path) -> Facts:
    """What an image file's header says, and of its pixels what a reader may lose: alpha, and more than 8 bits."""
    facts: Facts = {}
    with contextlib.suppress(InputError):
        header = read_header(path)
        height, width = header.shown
        facts |= {"size": [width, height], "bits": header.bits, "turned": header.orientation}
        if header.bits > 8:
            values = np.asarray(decode(path, 1)[0], np.float64)
            values = values[np.isfinite(values)]
            facts["range"] = [float(value) for value in np.quantile(values, (0, *NEARLY_ALL, 1))] if values.size else []
        if header.channels > MOST_CHANNELS:
            return facts
    with contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as image:
        facts |= {"kind": image.format, "mode": image.mode}
        if image.mode in ("RGBA", "LA"):
            facts["alpha"] = list(image.getchannel("A").getextrema())
    return facts


def pixel_facts(image: Tensor) -> Facts:
    """Of a decoded image (C, H, W): its size, whether it is of one colour, and whether a colour image is grey."""
    facts: Facts = {"flat": bool((image == image[:, :1, :1]).all()), "shape": list(image.shape)}
    if image.shape[0] == 3:
        facts["grey"] = bool((image == image[:1]).all())
    return facts


def describe(chart: Chart) -> list[str]:
    """Sizes, numbers of channels other than grey's and RGB's, colours and kinds of file, the most frequent first."""
    facts = [facts for _, _, facts in chart.seen()]
    sizes = [tuple(f.get("size") or f["shape"][:0:-1]) for f in facts]
    said = [frequent(f"{width}x{height} pixels" for width, height in sizes) if len(set(sizes)) <= 3 else spread(sizes)]
    if any(f["shape"][0] not in (1, 3) for f in facts):
        said.append(frequent(f"{f['shape'][0]} channels" for f in facts))
    said += [frequent(str(f[key]) for f in facts if f.get(key)) for key in ("mode", "kind")]
    return ["; ".join(part for part in said if part)]


def spread(sizes: list[tuple[int, int]]) -> str:
    """Many sizes in short."""
    axes = [sorted(size[axis] for size in sizes) for axis in (0, 1)]
    wide, high = (f"{sides[0]} to {sides[-1]} (median {sides[len(sides) // 2]})" for sides in axes)
    return f"{len(set(sizes))} sizes, {wide} pixels wide, {high} high"


def findings(chart: Chart) -> Iterator[Finding]:
    """One colour, alpha, grey in colour files, deep files, orientation; of pages the reader itself tells."""
    yield from depth(chart)
    yield from depths(chart)
    of = {
        name: [(chart.shown(item.name), facts) for _, item, facts in chart.seen() if test(facts)]
        for name, test in TESTS.items()
    }
    names = {name: tuple(shown for shown, _ in found) for name, found in of.items()}
    total = sum(1 for _ in chart.seen())
    if names["flat"]:
        yield Finding(
            "warning",
            f"{count(len(names['flat']), 'picture is', 'pictures are')} of one colour from edge to edge",
            names["flat"],
            "look at them; remove those that show nothing",
        )
    if names["opaque"]:
        yield Finding(
            "note",
            f"{count(len(names['opaque']), 'picture has', 'pictures have')} an alpha channel that is 255 everywhere: it says nothing and is dropped",
        )
    if names["clear"]:
        yield Finding(
            "note",
            f"{count(len(names['clear']), 'picture uses', 'pictures use')} transparency, which is dropped",
            names["clear"],
            "flatten them if what lies below the transparent parts is not meant to be seen",
        )
    if names["grey"]:
        share = "all" if len(names["grey"]) == total else f"{len(names['grey']):,} of {total:,}"
        yield Finding(
            "note",
            f"{share} pictures are colour files with grey content",
            todo="data.channels=1 reads them as grey and saves time" if share == "all" else "",
        )
    if names["turned"]:
        yield Finding(
            "note",
            f"{count(len(names['turned']), 'picture is', 'pictures are')} stored turned and brought upright by EXIF",
            names["turned"],
        )


def depth(chart: Chart) -> Iterator[Finding]:
    """Of pictures with more than 8 bits: values outside the window, and windows that a few values stretch."""
    seen = [(chart.shown(item.name), facts["range"]) for _, item, facts in chart.seen() if facts.get("range")]
    window = chart.data.spec.window if chart.data else ()
    if not seen or not window:
        return
    clipped = tuple(name for name, values in seen if values[1] < window[0] or values[2] > window[1])
    if clipped:
        yield Finding(
            "warning",
            f"{count(len(clipped), 'picture has', 'pictures have')} values outside the window {window[0]:g} to {window[1]:g}, which are cut off",
            clipped,
            "say another data.window",
        )
    if better := narrower(chart):
        low, high = better
        yield Finding(
            "warning",
            f"999 of 1,000 values lie in {low:g} to {high:g}, a small part of the window {window[0]:g} to {window[1]:g}: few grey levels are left for them",
            tuple(name for name, values in seen if values[3] > high + (high - low) or values[0] < low - (high - low)),
            f"data.window=[{low:g},{high:g}]",
        )


def depths(chart: Chart) -> Iterator[Finding]:
    """Pictures of 8 bits beside deeper ones: the window that turns the deep ones into 8 bits does nothing to them."""
    bits = {chart.shown(item.name): facts["bits"] for _, item, facts in chart.seen() if "bits" in facts}
    shallow = tuple(name for name, number in bits.items() if number <= 8)
    if shallow and len(shallow) < len(bits):
        yield Finding(
            "warning",
            f"{count(len(shallow), 'picture has', 'pictures have')} 8 bits, {len(bits) - len(shallow):,} have more: only the latter go through data.window, so that the same light becomes other values",
            shallow if 2 * len(shallow) <= len(bits) else tuple(name for name in bits if name not in set(shallow)),
            "bring all to one depth",
        )


def narrower(chart: Chart) -> tuple[float, ...]:
    """The window that nearly all values lie in, where it is a small part of the one in use; else empty."""
    ranges = [facts["range"] for _, _, facts in chart.seen() if facts.get("range")]
    window = chart.data.spec.window if chart.data else ()
    if not ranges or not window:
        return ()
    low, high = min(values[1] for values in ranges), max(values[2] for values in ranges)
    return (low, high) if high - low < NARROW * (window[1] - window[0]) else ()


TESTS = {
    "flat": lambda facts: facts.get("flat"),
    "opaque": lambda facts: facts.get("alpha") == [255, 255],
    "clear": lambda facts: facts.get("alpha", [255])[0] < 255,
    "grey": lambda facts: facts.get("grey") and facts.get("mode") != "P",
    "turned": lambda facts: facts.get("turned", 1) != 1,
}
