"""Masks: what the values are, which of them is the thing looked for, and the objects of one-file-an-object masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count, listed
from resmet.data_checks.run.result_cache import Facts

RARE = 0.01  # share of pixels below which a class is easily never predicted
SPECK = 10  # pixels: an object below it is more likely a slip of the pen


def mask_facts(mask: Tensor) -> Facts:
    """Of labels (H, W): pixels of every class."""
    labels, numbers = mask.unique(return_counts=True)
    return {"pixels": {str(int(label)): int(number) for label, number in zip(labels, numbers, strict=True)}}


def object_facts(masks: list[Tensor]) -> Facts:
    """Of one mask (H, W) an object: the objects' pixels, how many touch another, how many lap over another."""
    if not masks:
        return {"areas": [], "touching": 0, "overlapping": 0}
    areas = [int((mask > 0).sum()) for mask in masks]
    owner: NDArray[np.int32] = np.zeros(masks[0].shape, np.int32)
    overlapping: set[int] = set()
    for number, mask in enumerate(masks, 1):
        inside = mask.numpy() > 0
        if inside.shape != owner.shape:
            continue  # the reader says so
        overlapping |= {int(other) for other in np.unique(owner[inside]) if other}
        owner[inside] = number
    return {"areas": areas, "touching": len(touching(owner)), "overlapping": len(overlapping)}


def touching(owner: NDArray[np.int32]) -> set[int]:
    """The objects of a map (H, W) of object numbers that share an edge with another; 0 is no object."""
    found: set[int] = set()
    for first, second in ((owner[1:], owner[:-1]), (owner[:, 1:], owner[:, :-1])):
        meet = (first != second) & (first > 0) & (second > 0)
        found |= set(np.unique(first[meet]).tolist()) | set(np.unique(second[meet]).tolist())
    return found


def describe(chart: Chart) -> list[str]:
    """Shares of the classes, and the objects where each has a file."""
    areas = [area for _, _, facts in chart.seen() for area in facts.get("areas", [])]
    if not areas:
        return []
    numbers = [len(facts["areas"]) for _, _, facts in chart.seen() if "areas" in facts]
    return [
        f"{count(len(areas), 'object')}, {min(numbers)} to {max(numbers)} a picture; "
        f"{min(areas):,} to {max(areas):,} pixels, median {int(np.median(areas)):,}"
    ]


def findings(chart: Chart) -> Iterator[Finding]:
    """Rare classes, objects that touch, lap over each other or are hardly there."""
    pixels = chart.classes().get("train")
    if pixels and pixels.total():
        shares = {name: pixels[label] / pixels.total() for label, name in enumerate(chart.class_names)}
        if rare := [f"{name} is {100 * share:.2g} %" for name, share in shares.items() if 0 < share < RARE]:
            yield Finding(
                "note",
                f"{listed(rare)} of the pixels: a score over all pixels says nothing about {'it' if len(rare) == 1 else 'them'}, look at the IoU of each class",
            )
    seen = [(chart.shown(item.name), facts) for _, item, facts in chart.seen() if "areas" in facts]
    total = sum(len(facts["areas"]) for _, facts in seen)
    for key, words, todo in (
        ("touching", "touch another", "as one mask of classes they grow together: to tell them apart, detect boxes"),
        ("overlapping", "lap over another", "a pixel goes to one of them"),
    ):
        number = sum(facts[key] for _, facts in seen)
        if number:
            yield Finding(
                "note",
                f"{number:,} of {count(total, 'object')} {words}",
                tuple(name for name, facts in seen if facts[key]),
                todo,
            )
    empty = tuple(name for name, facts in seen for area in facts["areas"] if area == 0)
    if empty:
        yield Finding(
            "warning", f"{count(len(empty), 'object mask is', 'object masks are')} empty", empty, "remove the files"
        )
    specks = tuple(name for name, facts in seen for area in facts["areas"] if 0 < area < SPECK)
    if specks:
        yield Finding("note", f"{count(len(specks), 'object')} of less than {SPECK} pixels", specks)
