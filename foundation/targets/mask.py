"""Targets that give a class to every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foundation.structures import IGNORE, Prediction, Spec
from foundation.targets.base import Color, Resized, TargetKind, stack_padded


class MaskTarget(TargetKind):
    """A class for every pixel: (H, W) of class numbers and `IGNORE`. Batched (N, H, W), padded with `IGNORE`."""

    name = "mask"
    units = "pixels"
    whole_item = False
    max_imbalance = 50
    empty = "nothing but background"

    def is_valid(self, target: Any, num_classes: int, axes: tuple[int, ...]) -> bool:
        return isinstance(target, Tensor) and target.shape == axes and not target.is_floating_point()

    def counts(self, target: Any, num_classes: int) -> Tensor:
        return torch.bincount(target[target != IGNORE].flatten().long(), minlength=num_classes)

    def collate(self, targets: Sequence[Any], axes: tuple[int, ...]) -> Any:
        return stack_padded(targets, axes, IGNORE)

    def split(self, batched: Any, sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        return [mask[: size[0], : size[1]] for mask, size in zip(batched, sizes, strict=True)]

    def crop(self, target: Any, top: int, left: int, height: int, width: int) -> Any:
        return target[top : top + height, left : left + width]

    def pixel_map(self, batched: Any) -> Tensor | None:
        return batched

    def as_prediction(self, target: Any) -> Prediction:
        return {"mask": target}

    def to_original(self, prediction: Prediction, resized: Resized) -> Prediction:
        return prediction | {"mask": resized.mask_back(prediction["mask"])}

    def describe(self, prediction: Prediction, class_names: Sequence[str]) -> str:
        present = sorted({int(label) for label in prediction["mask"].unique()} - {IGNORE})
        return ", ".join([class_names[label] for label in present][:4])

    def to_json(self, prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
        shares = torch.bincount(prediction["mask"].flatten(), minlength=len(class_names)) / prediction["mask"].numel()
        return {"shares": {name: round(float(share), 4) for name, share in zip(class_names, shares, strict=True)}}

    def images(self, prediction: Prediction) -> dict[str, Tensor]:
        return {"mask": prediction["mask"].to(torch.uint8)}

    def draw(self, image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
        from foundation.visualization.overlays import draw_mask

        return draw_mask(image, prediction["mask"], spec)

    def enlarge(self, prediction: Prediction, factor: int) -> Prediction:
        return prediction | {"mask": prediction["mask"].repeat_interleave(factor, 0).repeat_interleave(factor, 1)}

    def legend(self, spec: Spec) -> list[tuple[str, Color]]:
        from foundation.visualization.overlays import mask_legend

        return mask_legend(spec)
