"""Semantic segmentation."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, pad
from torchmetrics.classification import MulticlassConfusionMatrix

from backbones.base import Backbone
from foundation.parallel.collectives import sum_over_ranks
from foundation.structures import IGNORE, Batch, Features, Prediction, Spec, require_range
from heads.dice_loss import dice_loss
from heads.unet import UNet
from tasks.base import Task
from tasks.optim.class_weights import compute_class_weights


class Segmentation(Task):
    """A class for every pixel; a single logit for a background and one class besides.

    Images may have any size: they are padded to what the backbone divides by, and predictions are cropped back.

    Args:
        spec: Describes the data; a class named ``background`` comes first.
        head: Makes the head from ``channels`` and ``num_classes``.
        dice_weight: Fraction of the Dice loss, 0 to 1; the remainder is cross-entropy. Source: Milletari et al., 2016
            (arXiv:1606.04797).
        class_weights: ``balanced`` weights a class in the cross-entropy inversely to its number of pixels.
    """

    score = "dice"
    targets = ("mask",)
    axes = (2,)
    weights: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        spec: Spec,
        head: Callable[..., nn.Module] = UNet,
        dice_weight: float = 0.5,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        super().__init__(backbone, spec)
        require_range("task.dice_weight", dice_weight, 0, 1)
        self.register_buffer("weights", compute_class_weights(spec, class_weights), persistent=False)
        self.binary = spec.num_classes == 2 and spec.class_names[0] == "background"
        self.head = head(backbone.channels, 1 if self.binary else spec.num_classes)
        self.dice_weight = dice_weight
        self.add_metrics({"confusion": MulticlassConfusionMatrix(spec.num_classes)})

    def normalize(self, batch: Batch) -> Tensor:
        x = super().normalize(batch)
        height, width = (-side % self.head.stride for side in x.shape[2:])
        return pad(x, (0, width, 0, height)) if height or width else x

    def logits(self, features: Features, batch: Batch) -> Tensor:
        """Returns logits (N, C, H, W), or (N, 1, H, W) for a binary task, at the size of the batch."""
        height, width = batch["input"].shape[2:]
        return self.head(features)[..., :height, :width]

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.logits(features, batch), batch["target"].long()
        valid = target != IGNORE
        if self.binary:
            pixel = binary_cross_entropy_with_logits(logits[:, 0], target.clamp(max=1).float(), reduction="none")
        else:
            pixel = cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        weights = valid if self.weights is None else valid * self.weights[target.clamp(max=len(self.weights) - 1)]
        loss, weight = sum_over_ranks(torch.stack([(pixel * weights).sum(), weights.sum().to(pixel.dtype)]))
        # If every pixel is ignored, the loss is 0, not 0 / 0.
        entropy = loss / weight.clamp(min=1e-6)
        dice = dice_loss(logits.contiguous(), target)
        return {"cross_entropy": (1 - self.dice_weight) * entropy, "dice": self.dice_weight * dice}

    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        logits = self.logits(features, batch)
        mask = (logits[:, 0] > 0).long() if self.binary else logits.argmax(1)
        return [{"mask": m[: size[0], : size[1]]} for m, size in zip(mask, batch["sizes"], strict=True)]

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        for prediction, target in zip(predictions, batch["target"], strict=True):
            height, width = prediction["mask"].shape
            truth = target[:height, :width].long()
            valid = truth != IGNORE
            self.metrics[stage].update(prediction["mask"][valid], truth[valid])

    def compute_metrics(self, stage: str) -> dict[str, float]:
        """Returns ``iou`` (mean over classes), ``dice`` (mean over classes but the background) and ``pixel_accuracy``, all in 0..1.

        ``iou`` and ``dice`` come for every class, too. A class that is in neither targets nor predictions is left out of the means.
        """
        matrix = self.metrics[stage].compute()["confusion"].double()
        hit, true, predicted = matrix.diag(), matrix.sum(1), matrix.sum(0)
        iou, dice = hit / (true + predicted - hit), 2 * hit / (true + predicted)
        first = 1 if self.spec.class_names[0] == "background" else 0
        values = {"iou": iou.nanmean(), "dice": dice[first:].nanmean(), "pixel_accuracy": hit.sum() / matrix.sum()}
        for i, name in enumerate(self.spec.class_names):
            values |= {f"iou/{name}": iou[i], f"dice/{name}": dice[i]}
        return {name: float(value) for name, value in values.items()}

    def metric_names(self) -> list[str]:
        each = [f"{kind}/{name}" for name in self.spec.class_names for kind in ("iou", "dice")]
        return ["iou", "dice", "pixel_accuracy", *each]

    def compute_plot_data(self, stage: str) -> dict[str, Any]:
        return {"confusion": self.metrics[stage].compute()["confusion"]}
