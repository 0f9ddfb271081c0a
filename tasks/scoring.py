"""Mean average precision over the whole set, computed once however many processes judged it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torchmetrics.detection import MeanAveragePrecision

from structures import Prediction

NAMES = ("map", "map_50", "map_75")

Boxes = list[dict[str, Tensor]]


class AveragePrecision(nn.Module):
    """COCO's figures of all batches since the last `reset`.

    Equal scores rank in the order of the images, so the processes' batches are put back into the order in which one process would
    have taken them (the first batch of each, then the second of each ...); the first process computes, all get the result.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.reset()

    def reset(self) -> None:
        self.batches: list[dict[str, Tensor]] = []
        self.found: dict[str, Any] | None = None

    def update(self, predictions: list[Prediction], targets: Boxes) -> None:
        """Add a batch; boxes (K, 4) and labels (K,) an image, predictions with scores (K,)."""
        self.found = None
        self.batches.append({f"said_{k}": v for k, v in pack(predictions).items()} | pack(targets))

    def compute(self) -> dict[str, Any]:
        """``map``, ``map_50`` and ``map_75``, NaN where the set holds no object at all, and ``precision`` (C, 101) at IoU 0.5 over recalls
        0, 0.01 ... 1, NaN for a class without objects.
        """
        if self.found is None:
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                self.found = self.compute_together()
            else:
                self.found = self.evaluate(self.batches)
        return self.found

    def compute_together(self) -> dict[str, Any]:
        first, world = dist.get_rank() == 0, dist.get_world_size()
        shards: list[Any] | None = [None] * world if first else None
        dist.gather_object(self.batches, shards)
        result = [self.evaluate(in_turn(shards)) if shards else None]
        dist.broadcast_object_list(result)
        return result[0]  # type: ignore[return-value]

    def evaluate(self, batches: list[dict[str, Tensor]]) -> dict[str, Any]:
        meter = MeanAveragePrecision(
            backend="faster_coco_eval", class_metrics=True, extended_summary=True, sync_on_compute=False
        )
        for batch in batches:
            meter.update(unpack({k[5:]: v for k, v in batch.items() if k.startswith("said_")}), unpack(batch))
        values = meter.compute()
        curves = torch.full((self.classes, 101), float("nan"))
        classes = values["classes"].reshape(-1).tolist()
        # (IoU thresholds, 101 recalls, classes, areas, most detections): IoU 0.5, all areas, 100 detections
        curves[classes] = torch.as_tensor(values["precision"])[0, :, :, 0, -1].T.float().clamp(min=0)
        return {name: float(values[name]) if values[name] >= 0 else float("nan") for name in NAMES} | {
            "precision": curves
        }


def pack(images: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Boxes, labels and scores of a batch's images end to end, on the CPU, and how many each has."""
    packed = {
        name: torch.cat([image[name].cpu() for image in images])
        for name in ("boxes", "labels", "scores")
        if name in images[0]
    }
    return packed | {"counts": torch.tensor([len(image["labels"]) for image in images])}


def unpack(packed: dict[str, Tensor]) -> Boxes:
    """The inverse of `pack`."""
    names = [name for name in ("boxes", "labels", "scores") if name in packed]
    parts = [packed[name].split(packed["counts"].tolist()) for name in names]
    return [dict(zip(names, image, strict=True)) for image in zip(*parts, strict=True)]


def in_turn(shards: list[list[Any]]) -> list[Any]:
    """The first of every shard, then the second of every shard ...; some end earlier."""
    longest = max(len(shard) for shard in shards)
    return [shard[i] for i in range(longest) for shard in shards if i < len(shard)]
