"""Targets that are objects in axis-aligned boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foundation.structures import Prediction, Spec
from foundation.targets.base import Matrix, Resized, TargetKind


class BoxesTarget(TargetKind):
    """Objects: ``boxes`` float (K, 4) as x1, y1, x2, y2 in pixels, and ``labels`` int64 (K,). Batched as a list of these."""

    name = "boxes"
    units = "boxes"
    whole_item = False
    has_boxes = True
    empty = "no box"

    def is_valid(self, target: Any, num_classes: int, axes: tuple[int, ...]) -> bool:
        if not isinstance(target, dict) or set(target) != {"boxes", "labels"}:
            return False
        boxes, labels = target["boxes"], target["labels"]
        shaped = boxes.shape == (len(labels), 4) and labels.ndim == 1 and labels.dtype == torch.int64
        return shaped and bool(((labels >= 0) & (labels < num_classes)).all())

    def counts(self, target: Any, num_classes: int) -> Tensor:
        return torch.bincount(target["labels"], minlength=num_classes)

    def collate(self, targets: Sequence[Any], axes: tuple[int, ...]) -> Any:
        return list(targets)

    def pack(self, batched: Any) -> Any:
        packed = {key: torch.cat([target[key] for target in batched]) for key in batched[0]}
        return packed | {"counts": [len(target["labels"]) for target in batched]}

    def unpack(self, packed: Any) -> Any:
        parts = {key: value.split(packed["counts"]) for key, value in packed.items() if key != "counts"}
        return [{key: parts[key][i] for key in parts} for i in range(len(packed["counts"]))]

    def to(self, batched: Any, device: torch.device) -> Any:
        return [{key: part.to(device, non_blocking=True) for key, part in target.items()} for target in batched]

    def crop(self, target: Any, top: int, left: int, height: int, width: int) -> Any:
        return target | {"boxes": target["boxes"] - torch.tensor([left, top, left, top])}

    def affine(self, target: Any, matrix: Matrix, height: int, width: int) -> Any:
        boxes = transform_boxes(target["boxes"], matrix, height, width)
        visible = ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(1)  # a box narrower than 2 pixels has no visible content
        return {"boxes": boxes[visible], "labels": target["labels"][visible]}

    def encode(self, target: Any) -> dict[str, Tensor | int]:
        return {f"target.{key}": value for key, value in target.items()}

    def decode(self, parts: dict[str, Any]) -> Any:
        return {key: parts[f"target.{key}"] for key in ("boxes", "labels")}

    def as_prediction(self, target: Any) -> Prediction:
        return target

    def filter_by_score(self, prediction: Prediction, threshold: float) -> Prediction:
        if "scores" not in prediction:
            return prediction
        keep = prediction["scores"] >= threshold
        return {key: value[keep] for key, value in prediction.items()}

    def to_original(self, prediction: Prediction, resized: Resized) -> Prediction:
        return prediction | {"boxes": resized.boxes_back(prediction["boxes"])}

    def describe(self, prediction: Prediction, class_names: Sequence[str]) -> str:
        counts = Counter(class_names[int(label)] for label in prediction["labels"])
        return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())[:5]) or "nothing"

    def to_json(self, prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
        rows = zip(*(prediction[key].tolist() for key in ("labels", "scores", "boxes")), strict=True)
        return {
            "objects": [
                {"class": class_names[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
                for label, score, box in rows
            ]
        }

    def draw(self, image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
        from foundation.visualization.overlays import draw_boxes

        return draw_boxes(image, prediction, spec)

    def enlarge(self, prediction: Prediction, factor: int) -> Prediction:
        return prediction | {"boxes": prediction["boxes"] * factor}


def transform_boxes(boxes: Tensor, matrix: Matrix, height: int, width: int) -> Tensor:
    """Boxes (K, 4) as x1, y1, x2, y2 in pixels -> the axis-aligned boxes around the transformed ones, clamped to the image."""
    a, b, c, d, e, f = matrix
    determinant = a * e - b * d
    center = torch.tensor([width / 2, height / 2])
    forward = torch.tensor([[e, -d], [-b, a]]) / determinant
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].float().reshape(-1, 4, 2) - center - torch.tensor([c, f])
    corners = (corners[..., :1] * forward[0] + corners[..., 1:] * forward[1]) + center
    low, high = corners.amin(1), corners.amax(1)
    return torch.cat([low, high], 1).clamp_(torch.zeros(4), torch.tensor([width, height] * 2))
