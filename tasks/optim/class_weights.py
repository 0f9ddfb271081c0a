"""How much a class weighs in a loss."""

import torch
from torch import Tensor

from foundation.structures import InputError, Spec


def class_weights(spec: Spec, kind: str) -> Tensor | None:
    """Weights (C,) with a mean of 1 over all that was counted, or None for ``none``.

    ``balanced`` is total / (C * count): every class weighs as much as every other. A class that does not occur has weight 1.
    Where an item has any number of classes, it is how much the presence of a class weighs against its absence.
    Source: King & Zeng, Logistic regression in rare events data, 2001 (Political Analysis 9).

    Raises:
        InputError: If `kind` is unknown, or the data did not count its classes.
    """
    if kind == "none":
        return None
    if kind != "balanced":
        raise InputError(f"task.class_weights must be none or balanced, got {kind!r}")
    if len(spec.counts) != spec.num_classes:
        raise InputError(
            "task.class_weights=balanced needs to know how frequent the classes are, and this data does not count them: "
            "say task.class_weights=none, or choose other data"
        )
    counts = torch.tensor(spec.counts, dtype=torch.float32)
    return torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp(min=1)), 1.0)
