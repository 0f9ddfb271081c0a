"""COCO's mean average precision over the whole set, computed once for all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor
from torch import distributed as dist
from torchmetrics import Metric

from foundation.parallel.collectives import is_distributed
from foundation.structures import Prediction

NAMES = ("map", "map_50", "map_75")

IOU_THRESHOLDS, RECALL_THRESHOLDS = torch.linspace(0.5, 0.95, 10).tolist(), torch.linspace(0, 1, 101).tolist()
"""The thresholds of COCO, in float32 as torchmetrics has them."""

Table = dict[str, Tensor]
"""``boxes`` (K, 4) as x1, y1, x2, y2, ``labels`` (K,) and maybe ``scores`` (K,) of many images, concatenated, and ``counts`` (N,) of each."""


class CocoMeanAveragePrecision(Metric):
    """COCO's mean average precision of all batches since the last `reset`.

    torchmetrics' own has -1 for a class without objects, and ranks equal scores in the order in which the ranks' states arrive. This one
    has NaN, and the order of the batches is that of a single rank (the first of each rank, then the second of each). Rank 0 computes it,
    once per epoch, for all ranks.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__(sync_on_compute=False)
        self.num_classes = num_classes
        self.batches: list[tuple[Table, Table]] = []

    @property
    def update_called(self) -> bool:
        """Always true, since a rank may have no items: torchmetrics would warn otherwise."""
        return True

    def reset(self) -> None:
        super().reset()
        self.batches = []

    def update(self, predictions: list[Prediction], targets: list[dict[str, Tensor]]) -> None:
        """Adds a batch: per image boxes (K, 4) and labels (K,), predictions also with scores (K,)."""
        self.batches.append((to_table(predictions), to_table(targets)))

    def compute(self) -> dict[str, Any]:
        """Returns the metrics, all in 0..1.

        They are ``map``, ``map_50`` and ``map_75``, NaN if the set has no object at all, and ``precision`` (C, 101) at IoU 0.5 over the
        recalls 0, 0.01 ... 1, NaN for a class without objects.
        """
        if not is_distributed() or dist.get_world_size() == 1:
            return self.evaluate(self.batches)
        is_first = dist.get_rank() == 0
        shards: list[Any] | None = [None] * dist.get_world_size() if is_first else None
        dist.gather_object(self.batches, shards)
        result: list[Any] = [self.evaluate(interleaved(shards)) if shards else None]
        dist.broadcast_object_list(result)
        return result[0]

    def evaluate(self, batches: list[tuple[Table, Table]]) -> dict[str, Any]:
        curves = torch.full((self.num_classes, 101), float("nan"))
        predicted, true = concatenate([pair[0] for pair in batches]), concatenate([pair[1] for pair in batches])
        classes = true["labels"].unique() if true else torch.zeros(0)
        if not len(classes):
            return dict.fromkeys(NAMES, float("nan")) | {"precision": curves}
        rows = records(predicted, classes), records(true, classes)
        precision = evaluate_coco(*rows, len(true["counts"]), classes.tolist())
        curves[classes] = precision[0].T.float()
        means = precision.mean((1, 2)).tolist()
        return {"map": sum(means) / len(means), "map_50": means[0], "map_75": means[5], "precision": curves}


def evaluate_coco(predicted: list[dict], true: list[dict], images: int, classes: list[int]) -> Tensor:
    """Returns precision (10, 101, K) by IoU threshold, recall threshold and class, with at most 100 detections per image and class.

    `predicted` and `true` are those that `records` returns, `images` is the number of images, `classes` are those with objects.
    """
    indices = (coco_index(rows, images, classes) for rows in (true, predicted))
    evaluation = COCOeval_faster(*indices, iouType="bbox")
    evaluation.params.iouThrs, evaluation.params.recThrs = IOU_THRESHOLDS, RECALL_THRESHOLDS
    evaluation.params.areaRng, evaluation.params.areaRngLbl, evaluation.params.maxDets = [[0, 1e10]], ["all"], [100]
    evaluation.evaluate()
    evaluation.accumulate()
    return torch.as_tensor(evaluation.eval["precision"])[:, :, :, 0, 0].double()


def coco_index(rows: list[dict], images: int, classes: list[int]) -> COCO:
    """Returns COCO's index of annotations."""
    index = COCO()
    index.dataset = {"images": [{"id": i} for i in range(images)], "annotations": rows}
    index.dataset["categories"] = [{"id": label} for label in classes]
    index.createIndex()
    return index


def records(table: Table, classes: Tensor) -> list[dict]:
    """Returns the boxes of `classes` as COCO's annotations, with ids from 1, since 0 means "no match"."""
    keep = torch.isin(table["labels"], classes)
    images = torch.arange(len(table["counts"])).repeat_interleave(table["counts"])
    boxes = torch.cat([table["boxes"][:, :2], table["boxes"][:, 2:] - table["boxes"][:, :2]], 1)
    scores = table.get("scores", torch.zeros(len(keep)))
    columns = [column[keep].tolist() for column in (images, table["labels"], boxes, scores)]
    names = ("id", "image_id", "category_id", "bbox", "score")
    rows = [dict(zip(names, (i, *row), strict=True)) for i, row in enumerate(zip(*columns, strict=True), 1)]
    return [{**row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0} for row in rows]


def to_table(images: Sequence[dict[str, Any]]) -> Table:
    """Returns the boxes, labels and scores of a batch's images as one table, on the CPU."""
    names = [name for name in ("boxes", "labels", "scores") if name in images[0]]
    packed = {name: torch.cat([image[name] for image in images]).cpu() for name in names}
    return packed | {"counts": torch.tensor([len(image["labels"]) for image in images])}


def concatenate(tables: Sequence[Table]) -> Table:
    """Returns many tables as one; an empty one without any."""
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]} if tables else {}


def interleaved(shards: list[list[Any]]) -> list[Any]:
    """Returns the first entry of every shard, then the second of every shard and so on; shards may differ in length."""
    longest = max(len(shard) for shard in shards)
    return [shard[i] for i in range(longest) for shard in shards if i < len(shard)]
