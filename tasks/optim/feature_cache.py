"""Features of a frozen backbone, computed once and held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from foundation.hardware import free_memory
from foundation.structures import Batch, Features

Key = tuple[str, tuple[int, ...]]
"""An item's name and the shape that its batch was padded to: all that its features depend on while the backbone is frozen."""

FREE_FRACTION = 0.25
"""Largest part of the free memory that a cache takes."""


class FeatureCache:
    """The features of items that a head needs, up to a `budget` in bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.items: dict[Key, Features] = {}

    def add(self, batch: Batch, features: Features) -> None:
        """Stores the features (N, C, *axes) of a batch by item, until the budget is used up."""
        for i, key in enumerate(keys(batch)):
            item = {stride: y[i].clone() for stride, y in features.items()}
            self.budget -= sum(y.numel() * y.element_size() for y in item.values())
            if self.budget < 0:
                return
            self.items[key] = item

    def get(self, batch: Batch) -> Features | None:
        """Returns the features of a batch, or None if one of its items is not cached."""
        wanted = list(keys(batch))
        if not all(key in self.items for key in wanted):
            return None
        items = [self.items[key] for key in wanted]
        return {stride: torch.stack([item[stride] for item in items]) for stride in items[0]}


def keys(batch: Batch) -> Iterator[Key]:
    shape = tuple(batch["input"].shape[1:])
    return ((name, shape) for name in batch["names"])


def in_order(loader: Any) -> DataLoader:
    """Returns the items of a training loader unshuffled and always in the same batches, so that features do not depend on the shuffle."""
    size, count = loader.batch_sampler.batch_size, len(loader.dataset)
    chunks = [[(0, i) for i in range(start, min(start + size, count))] for start in range(0, count, size)]
    return DataLoader(
        loader.dataset, batch_sampler=chunks, num_workers=loader.num_workers, collate_fn=loader.collate_fn
    )


def available_bytes(device: torch.device) -> int:
    """Returns the bytes on `device` that cached features may take."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return int(FREE_FRACTION * free)
