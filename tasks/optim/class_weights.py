"""Class weights of a loss."""

import torch
from torch import Tensor

from foundation.structures import InputError, Spec


def compute_class_weights(spec: Spec, kind: str) -> Tensor | None:
    """Returns weights (C,) whose mean over everything that was counted is 1, or None for ``none``.

    ``balanced`` is total / (C * count), as in scikit-learn, so that all classes contribute equally; a class that does not occur has
    weight 1. For multi-label targets it is the weight of the presence of a class against its absence.
    Source: King & Zeng, Logistic regression in rare events data, 2001 (Political Analysis 9).
    """
    if kind == "none":
        return None
    if kind != "balanced":
        raise InputError("task.unknown_class_weights", f"task.class_weights must be none or balanced, got {kind!r}")
    if len(spec.counts) != spec.num_classes:
        text = "task.class_weights=balanced needs the frequencies of the classes, which this data does not count"
        raise InputError("task.classes_not_counted", f"{text}: set task.class_weights=none, or choose other data")
    counts = torch.tensor(spec.counts, dtype=torch.float32)
    return torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp(min=1)), 1.0)
