"""Mean average precision over the whole set, computed once however many processes judged it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor, nn
from torch import distributed as dist

from foundation.structures import Prediction

NAMES = ("map", "map_50", "map_75")

OVERLAPS, RECALLS = torch.linspace(0.5, 0.95, 10).tolist(), torch.linspace(0, 1, 101).tolist()
"""The thresholds of COCO, in float32 as torchmetrics has them."""

Table = dict[str, Tensor]
"""Many images' ``boxes`` (K, 4) as x1, y1, x2, y2, ``labels`` (K,) and maybe ``scores`` (K,) end to end, and ``counts``, how many each has."""


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
        self.batches: list[tuple[Table, Table]] = []
        self.found: dict[str, Any] | None = None

    def update(self, predictions: list[Prediction], targets: list[dict[str, Tensor]]) -> None:
        """Add a batch; boxes (K, 4) and labels (K,) an image, predictions with scores (K,)."""
        self.found = None
        self.batches.append((pack(predictions), pack(targets)))

    def compute(self) -> dict[str, Any]:
        """``map``, ``map_50`` and ``map_75``, NaN where the set holds no object at all, and ``precision`` (C, 101) at IoU 0.5 over recalls
        0, 0.01 ... 1, NaN for a class without objects. It is computed once, however often it is asked for.
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

    def evaluate(self, batches: list[tuple[Table, Table]]) -> dict[str, Any]:
        curves = torch.full((self.classes, 101), float("nan"))
        said, true = join([pair[0] for pair in batches]), join([pair[1] for pair in batches])
        classes = true["labels"].unique() if true else torch.zeros(0)
        if not len(classes):
            return dict.fromkeys(NAMES, float("nan")) | {"precision": curves}
        precision = judge(records(said, classes), records(true, classes), len(true["counts"]), classes.tolist())
        curves[classes] = precision[0].T.float()
        means = precision.mean((1, 2)).tolist()
        return {"map": sum(means) / len(means), "map_50": means[0], "map_75": means[5], "precision": curves}


def judge(said: list[dict], true: list[dict], images: int, classes: list[int]) -> Tensor:
    """Precision (10, 101, K) by `OVERLAPS`, `RECALLS` and `classes`, which all have objects; at most 100 detections an image and class."""

    def side(rows: list[dict]) -> COCO:
        made = COCO()
        pictures, categories = [{"id": i} for i in range(images)], [{"id": label} for label in classes]
        made.dataset = {"images": pictures, "annotations": rows, "categories": categories}
        made.createIndex()
        return made

    work = COCOeval_faster(side(true), side(said), iouType="bbox")
    work.params.iouThrs, work.params.recThrs = OVERLAPS, RECALLS
    work.params.areaRng, work.params.areaRngLbl, work.params.maxDets = [[0, 1e10]], ["all"], [100]
    work.evaluate()
    work.accumulate()
    return torch.as_tensor(work.eval["precision"])[:, :, :, 0, 0].double()


def records(table: Table, classes: Tensor) -> list[dict]:
    """The boxes of `classes` as COCO has them, numbered from 1: 0 would mean that nothing matches."""
    keep = torch.isin(table["labels"], classes)
    images = torch.arange(len(table["counts"])).repeat_interleave(table["counts"])
    sides = torch.cat([table["boxes"][:, :2], table["boxes"][:, 2:] - table["boxes"][:, :2]], 1)
    scores = table.get("scores", torch.zeros(len(keep)))
    columns = [column[keep].tolist() for column in (images, table["labels"], sides, scores)]
    return [
        {
            "id": i,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for i, (image, label, box, score) in enumerate(zip(*columns, strict=True), 1)
    ]


def pack(images: Sequence[dict[str, Any]]) -> Table:
    """The boxes, labels and scores of a batch's images, on the CPU."""
    names = [name for name in ("boxes", "labels", "scores") if name in images[0]]
    packed = {name: torch.cat([image[name] for image in images]).cpu() for name in names}
    return packed | {"counts": torch.tensor([len(image["labels"]) for image in images])}


def join(tables: Sequence[Table]) -> Table:
    """One table of many; empty where there are none."""
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]} if tables else {}


def in_turn(shards: list[list[Any]]) -> list[Any]:
    """The first of every shard, then the second of every shard ...; some end earlier."""
    longest = max(len(shard) for shard in shards)
    return [shard[i] for i in range(longest) for shard in shards if i < len(shard)]
