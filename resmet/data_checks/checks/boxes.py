"""Checks of bounding boxes: number, size, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from datamodules.base.boxes import BoxDataModule
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
    median = sides.median()
    return [
        f"{pluralize(int(numbers.sum()), 'box', 'boxes')}, {int(numbers.min())} to {int(numbers.max())} per image, "
        f"median {int(numbers.median())}; sides {tenth(sides.min())} to {tenth(sides.max())} pixels, median {tenth(median)}"
    ]


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds boxes that the reader changed, boxes that are annotated twice, and boxes too small to be detected."""
    if context.kind is None or not context.kind.has_boxes:
        return
    if isinstance(context.data, BoxDataModule):
        remedy = "correct the annotations"
        yield from counted("boxes.no_area", "warning", context.data.dropped, "without area, dropped", remedy)
        yield from counted(
            "boxes.outside_image", "warning", context.data.clipped, "beyond the image's edge, clipped", remedy
        )
    duplicates, tiny = Counter[str](), Counter[str]()
    for _, item, _ in context.usable:
        name, boxes, labels = context.relative(item.name), item.target["boxes"].reshape(-1, 4), item.target["labels"]
        duplicates[name] += len(boxes) - len(
            {(*box, c) for box, c in zip(boxes.tolist(), labels.tolist(), strict=True)}
        )
        tiny[name] += int((sides_of(boxes) < MIN_SIDE).any(1).sum())
    remedy = "remove the duplicates: each counts as an object that is never found"
    yield from counted("boxes.duplicates", "warning", duplicates, "annotated twice", remedy)
    what = f"with a side below {MIN_SIDE:g} pixels, too small to be detected at this resolution"
    yield from counted("boxes.tiny", "note", tiny, what)


def counted(code: str, severity: str, numbers: Counter[str], what: str, remedy: str = "") -> Iterator[Finding]:
    """Reports boxes that are counted by image, if there are any."""
    if number := numbers.total():
        yield Finding(code, severity, f"{pluralize(number, 'box', 'boxes')} {what}", tuple(+numbers), remedy)


def sides_of(boxes: Tensor) -> Tensor:
    """Boxes (K, 4) as x1, y1, x2, y2 -> widths and heights (K, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def tenth(pixels: Tensor) -> str:
    """Formats a length to a tenth of a pixel: relative coordinates are no more exact."""
    return f"{round(float(pixels), 1):g}"
