"""Object detection."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import Backbone
from foundation.structures import Batch, Features, Prediction, Spec
from heads.rcnn import RCNN
from tasks.base import Task
from tasks.coco_map import NAMES, CocoMeanAveragePrecision


class Detection(Task):
    """Boxes and their classes, evaluated by COCO's mean average precision.

    Args:
        head: Makes the head from ``channels``, ``num_classes``, and ``objects_per_image`` and ``box_side_quantiles`` of the Spec.
    """

    score = "map_50"
    targets = ("boxes",)
    axes = (2,)

    def __init__(self, backbone: Backbone, spec: Spec, head: Callable[..., nn.Module] = RCNN) -> None:
        super().__init__(backbone, spec)
        facts = {name: vars(spec)[name] for name in ("objects_per_image", "box_side_quantiles")}
        self.head = head(backbone.channels, spec.num_classes, **facts)
        for stage in ("val", "test"):
            self.metrics[stage] = CocoMeanAveragePrecision(spec.num_classes)

    def notes(self) -> list[str]:
        size = f"images of up to {max(self.spec.size)} pixels, " if self.spec.size else ""
        return [f"detection with {size}{self.head.describe()}"] if isinstance(self.head, RCNN) else []

    def write_defaults(self, config: dict[str, Any]) -> None:
        if isinstance(self.head, RCNN) and "head" in config:
            config["head"] |= self.head.options

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return self.head.losses(features, batch)

    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        return self.head.predict(features, batch)

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        self.metrics[stage].update(predictions, batch["target"])

    def compute_metrics(self, stage: str) -> dict[str, float]:
        """Returns COCO's ``map``, ``map_50`` (the score) and ``map_75``, 0 to 1; NaN if the set has no object at all."""
        values = self.metrics[stage].compute()
        return {name: values[name] for name in NAMES}

    def metric_names(self) -> list[str]:
        return list(NAMES)

    def compute_plot_data(self, stage: str) -> dict[str, Any]:
        precision = self.metrics[stage].compute()["precision"]
        return {"precision": precision, "recall": torch.linspace(0, 1, 101).expand(len(precision), -1)}
