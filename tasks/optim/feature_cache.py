"""Features of a sleeping backbone, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from foundation.hardware import free_memory
from foundation.structures import Batch, Features

Key = tuple[str, tuple[int, ...]]
"""An item's name and the shape that its batch was padded to: all that its features depend on while the backbone sleeps."""

SHARE = 4  # of the free memory, one part in so many


class Kept:
    """What a head needs of every item's features, as long as there is room.

    Args:
        budget: Bytes to fill.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.found: dict[Key, Features] = {}

    def add(self, batch: Batch, features: Features) -> None:
        """Keep the features (N, C, *axes) of a batch by item, until the budget is used up."""
        for i, key in enumerate(keys(batch)):
            own = {stride: y[i].clone() for stride, y in features.items()}
            self.budget -= sum(y.numel() * y.element_size() for y in own.values())
            if self.budget < 0:
                return
            self.found[key] = own

    def get(self, batch: Batch) -> Features | None:
        """The features of a batch, or None where one of its items is not kept."""
        wanted = list(keys(batch))
        if not all(key in self.found for key in wanted):
            return None
        items = [self.found[key] for key in wanted]
        return {stride: torch.stack([item[stride] for item in items]) for stride in items[0]}


def keys(batch: Batch) -> Iterator[Key]:
    shape = tuple(batch["input"].shape[1:])
    return ((name, shape) for name in batch["names"])


def in_order(loader: Any) -> DataLoader:
    """The items of a training loader in their own order, always in the same batches: features must not follow from the shuffle."""
    size, count = loader.batch_sampler.batch_size, len(loader.dataset)
    chunks = [[(0, i) for i in range(start, min(start + size, count))] for start in range(0, count, size)]
    return DataLoader(
        loader.dataset, batch_sampler=chunks, num_workers=loader.num_workers, collate_fn=loader.collate_fn
    )


def room(device: torch.device) -> int:
    """Bytes on `device` that features may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // SHARE
    return free_memory() // SHARE
