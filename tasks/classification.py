"""Classification, multi-class and multi-label, over any number of axes."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecisionRecallCurve,
    MultilabelAccuracy,
    MultilabelAveragePrecision,
    MultilabelF1Score,
    MultilabelPrecisionRecallCurve,
)

from backbones.base import Backbone
from foundation.parallel.collectives import mean_over_ranks
from foundation.structures import Batch, Features, Prediction, Spec, require_range
from foundation.targets.kinds import TARGETS
from heads.linear import LinearHead
from tasks.base import Task
from tasks.optim.class_weights import compute_class_weights
from tasks.optim.mixup import Mixup

THRESHOLDS = 101


class Classification(Task):
    """One class per item (softmax), or any number of them (sigmoid) if the target is ``labels``.

    Args:
        dropout: Fraction of pooled features dropped in training, from 0 to below 1.
        label_smoothing: Fraction of the target spread over all classes, from 0 to below 1. Source: Szegedy et al., 2015
            (arXiv:1512.00567).
        threshold: Probability from which a class counts as present, 0 to 1; multi-label only.
        mixup: Parameter of Beta(mixup, mixup), from which the blending fraction of pairs of items is drawn; 0 is off, 0.2 usual.
        cutmix: Parameter of Beta(cutmix, cutmix), from which the fraction cut from one item into another is drawn; 0 is off, 1 usual.
        class_weights: ``balanced`` weights the loss of a class inversely to its frequency.
    """

    score = "accuracy"
    linear_head = True
    targets: tuple[str, ...] = ("label", "labels")
    weights: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        spec: Spec,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        threshold: float = 0.5,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        super().__init__(backbone, spec)
        require_range("task.label_smoothing", label_smoothing, 0, 1, below=True)
        require_range("task.threshold", threshold, 0, 1)
        self.label_smoothing, self.threshold = label_smoothing, threshold
        self.mixup = Mixup(mixup, cutmix, spec.num_classes, TARGETS[spec.target])
        self.register_buffer("weights", compute_class_weights(spec, class_weights), persistent=False)
        self.multilabel = spec.target == "labels"
        self.head = LinearHead(backbone.channels, spec.num_classes, dropout)
        if self.multilabel:
            self.score = "f1"  # accuracy is misleading where most classes are absent from most items
            self.add_metrics(multilabel_metrics(spec.num_classes, threshold))
        else:
            self.add_metrics(multiclass_metrics(spec.num_classes))

    def mix(self, batch: Batch) -> Batch:
        return self.mixup(batch)

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.head(features), batch["target"]
        if self.multilabel:
            smooth = target.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
            loss = binary_cross_entropy_with_logits(logits, smooth, pos_weight=self.weights)
            return {"binary_cross_entropy": mean_over_ranks(loss, logits.numel())}
        loss = cross_entropy(logits, target, self.weights, label_smoothing=self.label_smoothing)
        # torch divides by the weights of the items' classes; for class probabilities, by the number of items
        weights = self.weights[target].sum() if self.weights is not None and target.ndim == 1 else len(target)
        return {"cross_entropy": mean_over_ranks(loss, weights)}

    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        logits = self.head(features)
        if self.multilabel:
            return [{"probabilities": p, "labels": (p >= self.threshold).nonzero().flatten()} for p in logits.sigmoid()]
        return [{"probabilities": p, "labels": p.argmax().reshape(1)} for p in logits.softmax(1)]

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        self.metrics[stage].update(torch.stack([p["probabilities"] for p in predictions]), batch["target"])

    def compute_metrics(self, stage: str) -> dict[str, float]:
        """Returns ``accuracy``, ``f1`` and ``top5``, or ``average_precision`` if multi-label, all in 0..1."""
        values = self.metrics[stage].compute()
        return {name: float(values[name]) for name in self.metric_names()}

    def metric_names(self) -> list[str]:
        return [name for name in self.metrics["val"] if name not in ("confusion", "curve")]

    def compute_plot_data(self, stage: str) -> dict[str, Any]:
        values = self.metrics[stage].compute()
        precision, recall, _ = values["curve"]
        confusion = {} if self.multilabel else {"confusion": values["confusion"]}
        return {"precision": precision, "recall": recall, **confusion}

    def load_pretrained_head(self, head: dict[str, Tensor]) -> int:
        expected = self.head.linear.state_dict()
        if set(head) != set(expected) or any(head[name].shape != expected[name].shape for name in expected):
            return 0
        self.head.linear.load_state_dict(head)
        return len(expected)


def multiclass_metrics(num_classes: int) -> dict[str, Metric]:
    return {
        "accuracy": MulticlassAccuracy(num_classes, average="micro"),
        "top5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
        "f1": MulticlassF1Score(num_classes, average="macro"),
        "confusion": MulticlassConfusionMatrix(num_classes),
        "curve": MulticlassPrecisionRecallCurve(num_classes, thresholds=THRESHOLDS),
    }


def multilabel_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    return {
        "accuracy": MultilabelAccuracy(num_classes, threshold=threshold),
        "f1": MultilabelF1Score(num_classes, threshold=threshold),
        "average_precision": MultilabelAveragePrecision(num_classes, thresholds=THRESHOLDS),
        "curve": MultilabelPrecisionRecallCurve(num_classes, thresholds=THRESHOLDS),
    }
