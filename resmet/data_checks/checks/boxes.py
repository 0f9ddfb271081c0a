"""Boxes: how many a picture, how large, drawn twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count

SMALL = 4.0  # pixels: a side below it leaves nothing on the finest level of a feature pyramid


def describe(chart: Chart) -> list[str]:
    """Boxes a picture and their sides."""
    targets = [item.target for _, item, _ in chart.seen()]
    numbers = torch.tensor([len(target["boxes"]) for target in targets])
    boxes = torch.cat([target["boxes"].reshape(-1, 4) for target in targets]) if targets else torch.zeros(0, 4)
    if not len(boxes):
        return []
    sides = (boxes[:, 2:] - boxes[:, :2]).flatten()
    middle = torch.quantile(sides[:1_000_000], 0.5)
    return [
        f"{count(len(boxes), 'box', 'boxes')}, {int(numbers.min())} to {int(numbers.max())} a picture, median {int(numbers.median())}; "
        f"sides {tenth(sides.min())} to {tenth(sides.max())} pixels, median {tenth(middle)}"
    ]


def tenth(pixels: Tensor) -> str:
    """A length to a tenth of a pixel: what is left of shares of a side is no more exact."""
    return f"{round(float(pixels), 1):g}"


def findings(chart: Chart) -> Iterator[Finding]:
    """Boxes drawn twice, boxes too small to find."""
    twice, small = [], []
    for _, item, _ in chart.seen():
        boxes = item.target["boxes"].reshape(-1, 4)
        rows = Counter((*box, label) for box, label in zip(boxes.tolist(), item.target["labels"].tolist(), strict=True))
        twice += [chart.shown(item.name)] * sum(number - 1 for number in rows.values())
        small += [chart.shown(item.name)] * int(
            ((boxes[:, 2:] - boxes[:, :2]).amin(1) < SMALL).sum() if len(boxes) else 0
        )
    if twice:
        yield Finding(
            "warning",
            f"{count(len(twice), 'box is', 'boxes are')} drawn twice",
            tuple(dict.fromkeys(twice)),
            "remove the copies: one of each counts as a miss",
        )
    if small:
        yield Finding(
            "note",
            f"{count(len(small), 'box has', 'boxes have')} a side below {SMALL:g} pixels, too small to be found as {'it is' if len(small) == 1 else 'they are'}",
            tuple(dict.fromkeys(small)),
        )
