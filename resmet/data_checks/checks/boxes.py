"""Checks of bounding boxes: number, size, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from foundation.structures import pluralize
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding

MIN_SIDE = 4.0  # pixels: a box with a shorter side has no cell of its own on the finest level of a feature pyramid


def describe(context: CheckContext) -> list[str]:
    """Describes the boxes per image and their sides."""
    if context.kind is None or not context.kind.has_boxes:
        return []
    boxes = [item.target["boxes"].reshape(-1, 4) for _, item, _ in context.usable]
    numbers = torch.tensor([len(part) for part in boxes])
    if not numbers.sum():
        return []
    sides = sides_of(torch.cat(boxes)).flatten()
    median = torch.quantile(sides[:1_000_000], 0.5)
    return [
        f"{pluralize(int(numbers.sum()), 'box', 'boxes')}, {int(numbers.min())} to {int(numbers.max())} per image, "
        f"median {int(numbers.median())}; sides {tenth(sides.min())} to {tenth(sides.max())} pixels, median {tenth(median)}"
    ]


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds boxes that are annotated twice and boxes too small to be detected."""
    if context.kind is None or not context.kind.has_boxes:
        return
    duplicates, tiny = Counter[str](), Counter[str]()
    for _, item, _ in context.usable:
        name, boxes, labels = context.relative(item.name), item.target["boxes"].reshape(-1, 4), item.target["labels"]
        duplicates[name] += len(boxes) - len(
            {(*box, c) for box, c in zip(boxes.tolist(), labels.tolist(), strict=True)}
        )
        tiny[name] += int((sides_of(boxes) < MIN_SIDE).any(1).sum())
    if number := duplicates.total():
        yield Finding(
            "boxes.duplicates",
            "warning",
            f"{pluralize(number, 'box', 'boxes')} annotated twice",
            tuple(+duplicates),
            "remove the duplicates: each counts as an object that is never found",
        )
    if number := tiny.total():
        yield Finding(
            "boxes.tiny",
            "note",
            f"{pluralize(number, 'box', 'boxes')} with a side below {MIN_SIDE:g} pixels, too small to be detected at this resolution",
            tuple(+tiny),
        )


def sides_of(boxes: Tensor) -> Tensor:
    """Boxes (K, 4) as x1, y1, x2, y2 -> widths and heights (K, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def tenth(pixels: Tensor) -> str:
    """Formats a length to a tenth of a pixel: relative coordinates are no more exact."""
    return f"{round(float(pixels), 1):g}"
