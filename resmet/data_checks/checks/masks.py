"""Checks of segmentation masks: rare classes, and the objects where every object has a mask file of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foundation.structures import pluralize
from resmet.data_checks.model.context import CheckContext, Facts
from resmet.data_checks.model.finding import Finding, found, join_first

RARE = 0.01  # fraction of the pixels below which a class is easily never predicted
MIN_AREA = 10  # pixels: a smaller object is more likely a slip of the annotator


def object_facts(masks: list[Tensor]) -> Facts:
    """Measures the objects of masks (H, W) of one object each: areas, how many touch and how many overlap another."""
    insides = [mask.numpy() > 0 for mask in masks]
    owner: NDArray[np.int32] = np.zeros(masks[0].shape if masks else (0, 0), np.int32)
    overlapping: set[int] = set()
    for number, inside in enumerate(insides, 1):
        if inside.shape != owner.shape:
            continue  # loading the item reports it
        overlapping |= {int(other) for other in np.unique(owner[inside]) if other}
        owner[inside] = number
    areas = [int(np.count_nonzero(inside)) for inside in insides]
    return {"object_areas": areas, "touching": len(touching(owner)), "overlapping": len(overlapping)}


def touching(owner: NDArray[np.int32]) -> set[int]:
    """Returns the objects of a map (H, W) of object numbers that share an edge with another one; 0 is no object."""
    found: set[int] = set()
    for first, second in ((owner[1:], owner[:-1]), (owner[:, 1:], owner[:, :-1])):
        border = (first != second) & (first > 0) & (second > 0)
        found |= set(np.unique(first[border]).tolist()) | set(np.unique(second[border]).tolist())
    return found


def describe(context: CheckContext) -> list[str]:
    """Describes the number and the areas of the objects, if every object has a mask file."""
    objects = [facts["object_areas"] for _, _, facts in context.usable if "object_areas" in facts]
    areas, numbers = [area for of_image in objects for area in of_image], [len(of_image) for of_image in objects]
    if not areas:
        return []
    return [
        f"{pluralize(len(areas), 'object')}, {min(numbers)} to {max(numbers)} per image; "
        f"{min(areas):,} to {max(areas):,} pixels, median {int(np.median(areas)):,}"
    ]


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds rare classes, and objects that touch, overlap or hardly exist."""
    if context.kind is None or context.kind.name != "mask":
        return
    pixels = context.class_counts.get("train")
    if pixels and pixels.total():
        fractions = {name: pixels[label] / pixels.total() for label, name in enumerate(context.class_names)}
        if rare := [f"{name} {100 * part:.2g} %" for name, part in fractions.items() if 0 < part < RARE]:
            message = f"rare classes, by fraction of the pixels: {join_first(rare)}; pixel accuracy hides them, watch the IoU of each class"
            yield Finding("masks.rare_classes", "note", message)
    yield from objects(context)


def objects(context: CheckContext) -> Iterator[Finding]:
    """Finds objects that touch or overlap, and empty and tiny ones."""
    items = {context.relative(item.name): facts for _, item, facts in context.usable if "object_areas" in facts}
    total = pluralize(sum(len(facts["object_areas"]) for facts in items.values()), "object")
    touching_at = Counter({name: facts["touching"] for name, facts in items.items()})
    if number := touching_at.total():
        remedy = "a class mask merges them: to separate them, detect boxes"
        message = f"{number:,} of {total} touch another one"
        yield Finding("masks.touching_objects", "note", message, tuple(+touching_at), remedy)
    overlapping_at = Counter({name: facts["overlapping"] for name, facts in items.items()})
    if number := overlapping_at.total():
        message = f"{number:,} of {total} overlap another one; a pixel belongs to only one of them"
        yield Finding("masks.overlapping_objects", "note", message, tuple(+overlapping_at))
    areas = [(name, area) for name, facts in items.items() for area in facts["object_areas"]]
    if empty := tuple(name for name, area in areas if area == 0):
        message = pluralize(len(empty), "empty object mask")
        yield Finding("masks.empty_objects", "warning", message, empty, "remove the files")
    tiny = (name for name, area in areas if 0 < area < MIN_AREA)
    yield from found("masks.tiny_objects", "note", tiny, "object", f"of less than {MIN_AREA} pixels")
