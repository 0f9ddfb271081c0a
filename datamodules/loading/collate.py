"""Collates items into a batch."""

from collections.abc import Sequence
from typing import Any

import torch

from foundation.structures import InputError
from foundation.targets.base import TargetKind, stack_padded

UNREADABLE = "unreadable"
"""Key of a batch: the errors of the items that it lacks, as text."""

PARAMS = "params"
"""Key of a batch: the parameters of the transform that is still to be applied, one row per item, float64 (N, K)."""


def collate(samples: Sequence[tuple | InputError], kind: TargetKind | None = None) -> Any:
    """Returns a batch of the items that could be read (see `join`), with the errors of the others under `UNREADABLE`."""
    batch: Any = join([sample for sample in samples if not isinstance(sample, InputError)], kind)
    if missing := [str(sample) for sample in samples if isinstance(sample, InputError)]:
        batch[UNREADABLE] = missing
    return batch


def collate_packed(samples: Sequence[tuple | InputError], kind: TargetKind) -> Any:
    """Like `collate`, with the targets in few tensors for inter-process transfer: every tensor costs a file descriptor."""
    batch = collate(samples, kind)
    if "target" in batch:
        batch["target"] = kind.pack(batch["target"])
    return batch


def unpack(batch: Any, kind: TargetKind) -> Any:
    """Reverses the packing of `collate_packed`."""
    if "target" in batch:
        batch["target"] = kind.unpack(batch["target"])
    return batch


def join(samples: Sequence[tuple], kind: TargetKind | None) -> Any:
    """Stacks inputs, padding smaller ones with zeros at the end of every axis to the largest of this rank, and collates targets.

    A sample is an input, its target, its name and, for items of a data module, a seed for what a step draws at random and the parameters
    of a transform that is applied to the batch. `kind` is that of the targets, if there are any. A batch of no sample has an empty list
    of names only.
    """
    if not samples:
        return {"names": []}
    signals, targets, names, *more = zip(*samples, strict=True)
    sizes = [tuple(signal.shape[1:]) for signal in signals]
    largest = sizes[0] if len(set(sizes)) == 1 else tuple(max(axis) for axis in zip(*sizes, strict=True))
    batch: Any = {"input": stack_padded(signals, largest, 0), "sizes": sizes, "names": list(names)}
    if more:
        batch["seeds"] = list(more[0])
    if len(more) > 1 and more[1][0] is not None:
        batch[PARAMS] = torch.tensor(more[1], dtype=torch.float64)
    if kind is not None:
        batch["target"] = kind.collate(targets, largest)
    return batch


def to_device(batch: Any, device: torch.device, kind: TargetKind) -> Any:
    """Returns a batch with input and target on `device`."""
    moved = {"input": batch["input"].to(device, non_blocking=True)} if "input" in batch else {}
    if "target" in batch:
        moved["target"] = kind.to(batch["target"], device)
    return {**batch, **moved}
