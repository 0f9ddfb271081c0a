"""Pictures: what a file says of itself, and what a person should know about all of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from health.chart import Chart
from health.findings import Finding, count
from health.memory import Facts

DEEP = ("I;16", "I;16B", "I;16L", "I", "F")
ORIENTATION = 0x0112  # EXIF's tag
FEW_LEVELS = 64  # of 256; a 16-bit picture that leaves fewer when its upper 8 bits are kept loses what it shows


def file_facts(path: Path) -> Facts:
    """What an image file's header says, and of its pixels what a reader may lose: alpha, and more than 8 bits."""
    facts: Facts = {}
    with (
        contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError),
        Image.open(path) as image,
    ):
        facts |= {"kind": image.format, "mode": image.mode, "size": list(image.size)}
        facts["pages"] = int(getattr(image, "n_frames", 1))
        facts["turned"] = int(image.getexif().get(ORIENTATION, 1))
        if image.mode in ("RGBA", "LA"):
            facts["alpha"] = list(image.getchannel("A").getextrema())
        if image.mode in DEEP:
            values = np.asarray(image)
            facts["range"] = [float(values.min()), float(values.max())]
    return facts


def pixel_facts(image: Tensor) -> Facts:
    """Of a decoded image (C, H, W): its size, whether it is of one colour, and whether a colour image is grey."""
    facts: Facts = {"flat": bool((image == image[:, :1, :1]).all()), "shape": list(image.shape)}
    if image.shape[0] == 3:
        facts["grey"] = bool((image == image[:1]).all())
    return facts


def describe(chart: Chart) -> list[str]:
    """Sizes, colours and kinds of file, the most frequent first."""
    facts = [facts for _, _, facts in chart.seen()]
    sizes = Counter(tuple(f.get("size") or f["shape"][:0:-1]) for f in facts)
    modes = Counter(f["mode"] for f in facts if "mode" in f)
    kinds = Counter(f["kind"] for f in facts if "kind" in f)
    said = []
    if len(sizes) <= 3:
        said.append(
            ", ".join(
                f"{w}x{h} pixels" + (f" ({number:,})" if len(sizes) > 1 else "")
                for (w, h), number in sizes.most_common()
            )
        )
    else:
        widths, heights = (sorted(size[axis] for size in sizes.elements()) for axis in (0, 1))
        middle = len(widths) // 2
        said.append(
            f"{widths[0]} to {widths[-1]} pixels wide, {heights[0]} to {heights[-1]} high, medians {widths[middle]} and {heights[middle]}, {len(sizes)} sizes"
        )
    for found in (modes, kinds):
        if found:
            said.append(
                ", ".join(name + (f" ({number:,})" if len(found) > 1 else "") for name, number in found.most_common(4))
            )
    return ["; ".join(said)]


def findings(chart: Chart) -> Iterator[Finding]:
    """One colour, alpha, grey in colour files, deep and multi-page files, orientation."""
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
    if names["dim"]:
        top = max(facts["range"][1] for _, facts in of["dim"])
        yield Finding(
            "warning",
            f"{count(len(names['dim']), 'picture has', 'pictures have')} more than 8 bits but values only up to {top:g}: brought to 8 bits, few grey levels are left",
            names["dim"],
            "rescale them to the full range, or save them with 8 bits",
        )
    if names["beyond"]:
        yield Finding(
            "warning",
            f"{count(len(names['beyond']), 'picture holds', 'pictures hold')} values below 0 or above 65,535, which are cut off",
            names["beyond"],
            "rescale them to 0..65535",
        )
    if names["pages"]:
        yield Finding(
            "note",
            f"{count(len(names['pages']), 'file has', 'files have')} several pages: the first is read",
            names["pages"],
        )
    if names["turned"]:
        yield Finding(
            "note",
            f"{count(len(names['turned']), 'picture is', 'pictures are')} stored turned and brought upright by EXIF",
            names["turned"],
        )


def levels(facts: Facts) -> float:
    """Of 256 grey levels, how many a deep picture's range fills once its upper 8 bits are kept."""
    low, high = facts["range"]
    return (high - low) / 256


TESTS = {
    "flat": lambda facts: facts.get("flat"),
    "opaque": lambda facts: facts.get("alpha") == [255, 255],
    "clear": lambda facts: facts.get("alpha", [255])[0] < 255,
    "grey": lambda facts: facts.get("grey") and facts.get("mode") != "P",
    "dim": lambda facts: "range" in facts and facts["range"][1] <= 65535 and levels(facts) < FEW_LEVELS,
    "beyond": lambda facts: "range" in facts and (facts["range"][1] > 65535 or facts["range"][0] < 0),
    "pages": lambda facts: facts.get("pages", 1) > 1,
    "turned": lambda facts: facts.get("turned", 1) != 1,
}
