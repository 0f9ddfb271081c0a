"""How many objects images have, and how large those are: what sizes of input and head follow from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

FEW = 20
"""Boxes of a class below which nothing is said of its sizes, unless no class has as many."""


def small_side(sides: Sequence[float], classes: Sequence[Any]) -> float | None:
    """The side that a tenth of the boxes stays below, in the class where that is least: all classes weigh alike in the score.

    Boxes without area do not count. None where nothing is left.
    """
    by_class: dict[Any, list[float]] = {}
    for side, label in zip(sides, classes, strict=True):
        if side > 0:
            by_class.setdefault(label, []).append(side)
    frequent = [own for own in by_class.values() if len(own) >= FEW] or list(by_class.values())
    return min((float(np.quantile(own, 0.1)) for own in frequent), default=None)


def measure(targets: Sequence[dict[str, Any]]) -> tuple[int, tuple[float, ...]]:
    """``objects_per_image`` and ``box_side_quantiles`` of `Spec`, from the training items' boxes and labels at their final size."""
    counts = [len(target["labels"]) for target in targets]
    if not sum(counts):
        return 0, ()
    boxes = torch.cat([target["boxes"] for target in targets])
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    small = small_side(sides.tolist(), torch.cat([target["labels"] for target in targets]).tolist())
    rest = np.quantile(sides.numpy(), (0.5, 0.9)).tolist()
    return int(np.ceil(np.quantile(counts, 0.95))), tuple(round(side, 2) for side in (small or 0.0, *rest))
