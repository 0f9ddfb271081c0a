"""Targets that describe an item as a whole: one class, or any number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foundation.structures import Prediction
from foundation.targets.base import TargetKind


class WholeItem(TargetKind):
    """A target with one or several of the classes."""

    def describe(self, prediction: Prediction, class_names: Sequence[str]) -> str:
        """Returns up to four class names, with their probabilities where there are any."""
        probabilities, labels = prediction.get("probabilities"), prediction["labels"].tolist()
        words = [
            class_names[i] if probabilities is None else f"{class_names[i]} {float(probabilities[i]):.2f}"
            for i in labels
        ]
        return ", ".join(words[:4]) or "none"

    def to_json(self, prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
        chosen = [class_names[int(label)] for label in prediction["labels"]]
        probabilities = dict(zip(class_names, prediction["probabilities"].tolist(), strict=True))
        return {"classes": chosen, "probabilities": {name: round(value, 4) for name, value in probabilities.items()}}


class LabelTarget(WholeItem):
    """One class an item: an int. Batched int64 (N,), or after mixup float (N, C) of class probabilities."""

    name = "label"
    max_imbalance = 10

    def is_valid(self, target: Any, num_classes: int, axes: tuple[int, ...]) -> bool:
        return isinstance(target, int) and not isinstance(target, bool) and 0 <= target < num_classes

    def counts(self, target: Any, num_classes: int) -> Tensor:
        return torch.bincount(torch.tensor([int(target)]), minlength=num_classes)

    def collate(self, targets: Sequence[Any], axes: tuple[int, ...]) -> Any:
        return torch.tensor(targets)

    def one_hot(self, batched: Any, num_classes: int) -> Tensor:
        return functional.one_hot(batched, num_classes).float()

    def encode(self, target: Any) -> dict[str, Tensor | int]:
        return {"label": int(target)}

    def decode(self, parts: dict[str, Any]) -> Any:
        return parts["label"]

    def as_prediction(self, target: Any) -> Prediction:
        target = torch.as_tensor(target)
        return {"labels": target.reshape(1)} if target.ndim == 0 else mixed(target)

    def to_json(self, prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
        values = super().to_json(prediction, class_names)
        return {"class": values["classes"][0], "probabilities": values["probabilities"]}


class MultiLabelTarget(WholeItem):
    """Any number of classes an item: 0 and 1, (C,). Batched (N, C), after mixup float."""

    name = "labels"

    def is_valid(self, target: Any, num_classes: int, axes: tuple[int, ...]) -> bool:
        return isinstance(target, Tensor) and target.shape == (num_classes,)

    def counts(self, target: Any, num_classes: int) -> Tensor:
        return target.long()

    def one_hot(self, batched: Any, num_classes: int) -> Tensor:
        return batched.float()

    def as_prediction(self, target: Any) -> Prediction:
        return mixed(target) if target.is_floating_point() else {"labels": target.nonzero().flatten()}


def mixed(probabilities: Tensor) -> Prediction:
    """Returns the prediction that class probabilities (C,) of a mixed item stand for."""
    return {"labels": probabilities.nonzero().flatten(), "probabilities": probabilities.float()}
