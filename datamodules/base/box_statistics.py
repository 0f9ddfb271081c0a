"""Number and size of the objects in images, from which the sizes of input and head follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

MIN_BOXES = 20
"""Number of boxes below which a class is left out of the quantiles, unless all classes are that rare."""


def small_side(sides: Sequence[float], classes: Sequence[Any]) -> float | None:
    """Returns the 0.1 quantile of the boxes' sides in the class in which it is smallest, since mAP weighs all classes alike.

    Boxes without area do not count; None if there are no others.
    """
    by_class: dict[Any, list[float]] = {}
    for side, label in zip(sides, classes, strict=True):
        if side > 0:
            by_class.setdefault(label, []).append(side)
    frequent = [sides for sides in by_class.values() if len(sides) >= MIN_BOXES] or list(by_class.values())
    return min((float(np.quantile(sides, 0.1)) for sides in frequent), default=None)


def measure_boxes(targets: Sequence[dict[str, Any]]) -> tuple[int, tuple[float, ...]]:
    """Returns `Spec.objects_per_image` and `Spec.box_side_quantiles` of the training items' boxes and labels at their final size."""
    counts = [len(target["labels"]) for target in targets]
    if not sum(counts):
        return 0, ()
    boxes = torch.cat([target["boxes"] for target in targets])
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    small = small_side(sides.tolist(), torch.cat([target["labels"] for target in targets]).tolist())
    rest = np.quantile(sides.numpy(), (0.5, 0.9)).tolist()
    return int(np.ceil(np.quantile(counts, 0.95))), tuple(round(side, 2) for side in (small or 0.0, *rest))
