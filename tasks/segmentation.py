"""Which class is every pixel?"""

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
from tasks.optim.class_weights import class_weights as weigh


class Segmentation(Task):
    """A class for every pixel; a single logit where there is a background and one class besides.

    Images of any size: padded inside to what the backbone divides by, cropped back.

    Args:
        backbone: Over 2 axes.
        spec: What the data says of itself; a class named ``background`` stands first.
        head: Makes the head from ``channels`` and ``num_classes``.
        dice_weight: Share of the Dice loss beside cross-entropy, 0 to 1. Source: Milletari et al., 2016 (arXiv:1606.04797).
        class_weights: ``balanced`` lets a class weigh the more in the cross-entropy the fewer pixels it has.

    Raises:
        InputError: If `dice_weight` is outside 0..1, or the data did not count what is to be balanced.
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
        self.register_buffer("weights", weigh(spec, class_weights), persistent=False)
        self.binary = spec.num_classes == 2 and spec.class_names[0] == "background"
        self.head = head(backbone.channels, 1 if self.binary else spec.num_classes)
        self.dice_weight = dice_weight
        self.add_metrics({"confusion": MulticlassConfusionMatrix(spec.num_classes)})

    def normalise(self, batch: Batch) -> Tensor:
        x = super().normalise(batch)
        height, width = (-side % self.head.stride for side in x.shape[2:])
        return pad(x, (0, width, 0, height)) if height or width else x

    def logits(self, features: Features, batch: Batch) -> Tensor:
        """Logits (N, C, H, W), or (N, 1, H, W) for a binary task, at the size of the batch."""
        height, width = batch["input"].shape[2:]
        return self.head(features)[..., :height, :width]

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.logits(features, batch), batch["target"].long()
        valid = target != IGNORE
        if self.binary:
            pixel = binary_cross_entropy_with_logits(logits[:, 0], target.clamp(max=1).float(), reduction="none")
        else:
            pixel = cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        pluralize = valid if self.weights is None else valid * self.weights[target.clamp(max=len(self.weights) - 1)]
        loss, weight = sum_over_ranks(torch.stack([(pixel * pluralize).sum(), pluralize.sum().to(pixel.dtype)]))
        entropy = loss / weight.clamp(min=1e-6)  # where every pixel is ignored there is no loss, rather than 0 / 0
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

    def results(self, stage: str) -> dict[str, float]:
        """`iou` is the mean over classes, `dice` the mean over classes that are no background, `pixel_accuracy` over pixels.

        Both come for every class too. A class that neither the truth nor the prediction holds is left out of the means.
        """
        matrix = self.metrics[stage].compute()["confusion"].double()
        hit, true, said = matrix.diag(), matrix.sum(1), matrix.sum(0)
        iou, dice = hit / (true + said - hit), 2 * hit / (true + said)
        first = 1 if self.spec.class_names[0] == "background" else 0
        values = {"iou": iou.nanmean(), "dice": dice[first:].nanmean(), "pixel_accuracy": hit.sum() / matrix.sum()}
        for i, name in enumerate(self.spec.class_names):
            values |= {f"iou/{name}": iou[i], f"dice/{name}": dice[i]}
        return {name: float(value) for name, value in values.items()}

    def metric_names(self) -> list[str]:
        each = [f"{kind}/{name}" for name in self.spec.class_names for kind in ("iou", "dice")]
        return ["iou", "dice", "pixel_accuracy", *each]

    def details(self, stage: str) -> dict[str, Any]:
        return {"confusion": self.metrics[stage].compute()["confusion"]}
