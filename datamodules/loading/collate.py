"""From items to a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from foundation.structures import IGNORE, InputError

UNREADABLE = "unreadable"
"""Under this key a batch brings what is wrong with items that it lacks."""

COUNTS = "counts"
"""Under this key a packed batch brings the number of every item's objects."""

CHANGES = "changes"
"""Under this key a batch brings what is still to be made of its items, a row of numbers each, float64 (N, K)."""


def collate(samples: Sequence[tuple | InputError]) -> Any:
    """A batch of what could be read, and under `UNREADABLE` what is wrong with the rest."""
    batch: Any = join([sample for sample in samples if not isinstance(sample, InputError)])
    if missing := [str(sample) for sample in samples if isinstance(sample, InputError)]:
        batch[UNREADABLE] = missing
    return batch


def collate_packed(samples: Sequence[tuple | InputError]) -> Any:
    """A batch in few tensors, for the way between processes, where each would take an open file and, of what is kept, stay for good."""
    batch = collate(samples)
    if isinstance(batch.get("target"), list):
        parts = batch["target"]
        batch["target"] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        batch[COUNTS] = [len(part["labels"]) for part in parts]
    return batch


def unpack(batch: Any) -> Any:
    """What `collate` gives, of what `collate_packed` gave."""
    if (counts := batch.pop(COUNTS, None)) is not None:
        parts = {key: value.split(counts) for key, value in batch["target"].items()}
        batch["target"] = [{key: parts[key][i] for key in parts} for i in range(len(counts))]
    return batch


def join(samples: Sequence[tuple]) -> Any:
    """Stack inputs, padding smaller ones with zeros at the end (masks with `IGNORE`).

    A sample is an input, its target, its name and, where something is to be drawn at random of it, a seed, and where it is still to
    be changed, the numbers of that. A batch of no sample has no more than an empty list of names. Of several processes each pads to
    the largest of its own samples.
    """
    if not samples:
        return {"names": []}
    signals, targets, names, *more = zip(*samples, strict=True)
    sizes = [tuple(signal.shape[1:]) for signal in signals]
    largest = sizes[0] if len(set(sizes)) == 1 else tuple(max(axis) for axis in zip(*sizes, strict=True))
    batch: Any = {"input": stack(signals, largest, 0), "sizes": sizes, "names": list(names)}
    if more:
        batch["seeds"] = list(more[0])
    if len(more) > 1 and more[1][0] is not None:
        batch[CHANGES] = torch.tensor(more[1], dtype=torch.float64)
    first = targets[0]
    if isinstance(first, dict):
        batch["target"] = list(targets)
    elif isinstance(first, Tensor) and first.ndim == 2:
        batch["target"] = stack(targets, largest, IGNORE)
    elif isinstance(first, Tensor):
        batch["target"] = torch.stack(targets)
    elif first is not None:
        batch["target"] = torch.tensor(targets)
    return batch


def stack(tensors: Sequence[Tensor], largest: tuple[int, ...], value: int) -> Tensor:
    """Stack (..., *axes), each axis padded at its end to `largest`."""

    def missing(tensor: Tensor) -> Iterator[int]:
        for have, want in zip(reversed(tensor.shape), reversed(largest), strict=False):
            yield from (0, want - have)

    return torch.stack(
        [t if t.shape[-len(largest) :] == largest else pad(t, tuple(missing(t)), value=value) for t in tensors]
    )


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on `device`, but for what stays to be read by the program."""
    return {key: value if key == CHANGES else on(value, device) for key, value in batch.items()}


def on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [{key: part.to(device, non_blocking=True) for key, part in one.items()} for one in value]
    return value
