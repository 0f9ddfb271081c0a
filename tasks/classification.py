"""Which class, or which classes, is this?"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
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
from heads.linear import Pooled
from tasks.base import Task
from tasks.optim.class_weights import class_weights as weigh
from tasks.optim.mixup import Mixing

THRESHOLDS = 101


class Classification(Task):
    """One class an item (softmax), or any number of them (sigmoid) where the data says ``labels``.

    Args:
        backbone: Over as many axes as the data has.
        spec: What the data says of itself.
        dropout: Share of pooled features dropped while training, 0 to 1.
        label_smoothing: Share of the target spread over all classes, 0 to 1. Source: Szegedy et al., 2015 (arXiv:1512.00567).
        threshold: Probability from which a class counts as present, multi-label only.
        mixup: Blend pairs of items, the share drawn from Beta(mixup, mixup); 0 is off, 0.2 usual.
        cutmix: Cut a part of one item into another, its share drawn from Beta(cutmix, cutmix); 0 is off, 1 usual.
        class_weights: ``balanced`` lets a class weigh the more in the loss the rarer it is.

    Raises:
        InputError: If a share is outside 0..1, `mixup` or `cutmix` is negative, or the data did not count what is to be balanced.
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
        self.mixing = Mixing(mixup, cutmix, spec.num_classes, TARGETS[spec.target])
        self.register_buffer("weights", weigh(spec, class_weights), persistent=False)
        self.multilabel = spec.target == "labels"
        self.head = Pooled(backbone.channels, spec.num_classes, dropout)
        count = spec.num_classes
        if self.multilabel:
            self.score = "f1"  # accuracy flatters: most classes are absent from most items
            self.add_metrics(
                {
                    "accuracy": MultilabelAccuracy(count, threshold=threshold),
                    "f1": MultilabelF1Score(count, threshold=threshold),
                    "average_precision": MultilabelAveragePrecision(count, thresholds=THRESHOLDS),
                    "curve": MultilabelPrecisionRecallCurve(count, thresholds=THRESHOLDS),
                }
            )
        else:
            self.add_metrics(
                {
                    "accuracy": MulticlassAccuracy(count, average="micro"),
                    "top5": MulticlassAccuracy(count, average="micro", top_k=min(5, count)),
                    "f1": MulticlassF1Score(count, average="macro"),
                    "confusion": MulticlassConfusionMatrix(count),
                    "curve": MulticlassPrecisionRecallCurve(count, thresholds=THRESHOLDS),
                }
            )

    def mix(self, batch: Batch) -> Batch:
        return self.mixing(batch)

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.head(features), batch["target"]
        if self.multilabel:
            smooth = target.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
            loss = binary_cross_entropy_with_logits(logits, smooth, pos_weight=self.weights)
            return {"binary_cross_entropy": mean_over_ranks(loss, logits.numel())}
        loss = cross_entropy(logits, target, self.weights, label_smoothing=self.label_smoothing)
        # torch divides by the weights of the items' classes; where items have shares of classes, by the number of items
        hard = self.weights is not None and target.ndim == 1
        return {"cross_entropy": mean_over_ranks(loss, self.weights[target].sum() if hard else len(target))}  # type: ignore[index]

    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        logits = self.head(features)
        if self.multilabel:
            return [{"probabilities": p, "labels": (p >= self.threshold).nonzero().flatten()} for p in logits.sigmoid()]
        return [{"probabilities": p, "labels": p.argmax().reshape(1)} for p in logits.softmax(1)]

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        self.metrics[stage].update(torch.stack([p["probabilities"] for p in predictions]), batch["target"])

    def results(self, stage: str) -> dict[str, float]:
        values = self.metrics[stage].compute()
        return {name: float(value) for name, value in values.items() if isinstance(value, Tensor) and value.ndim == 0}

    def metric_names(self) -> list[str]:
        return [name for name in self.metrics["val"] if name not in ("confusion", "curve")]

    def details(self, stage: str) -> dict[str, Any]:
        values = self.metrics[stage].compute()
        precision, recall, _ = values["curve"]
        return {"precision": precision, "recall": recall} | (
            {} if self.multilabel else {"confusion": values["confusion"]}
        )

    def adopt_head(self, head: dict[str, Tensor]) -> int:
        own = self.head.linear.state_dict()
        if set(head) != set(own) or any(head[name].shape != own[name].shape for name in own):
            return 0
        self.head.linear.load_state_dict(head)
        return len(own)
