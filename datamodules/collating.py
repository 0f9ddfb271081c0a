"""From items to a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from structures import IGNORE, Batch, InputError

UNREADABLE = "unreadable"
"""Under this key a batch brings what is wrong with items that it lacks."""


def collate(samples: Sequence[tuple | InputError]) -> Any:
    """A batch of what could be read, and under `UNREADABLE` what is wrong with the rest."""
    batch: Any = join([sample for sample in samples if not isinstance(sample, InputError)])
    if missing := [str(sample) for sample in samples if isinstance(sample, InputError)]:
        batch[UNREADABLE] = missing
    return batch


def join(samples: Sequence[tuple]) -> Batch:
    """Stack inputs, padding smaller ones with zeros at the end (masks with `IGNORE`).

    A sample is an input, its target, its name and, where something is to be drawn at random of it, a seed. A batch of no sample
    has no more than an empty list of names. Of several processes each pads to the largest of its own samples.
    """
    if not samples:
        return {"names": []}
    signals, targets, names, *seeds = zip(*samples, strict=True)
    sizes = [tuple(signal.shape[1:]) for signal in signals]
    largest = tuple(max(axis) for axis in zip(*sizes, strict=True))
    batch: Batch = {"input": stack(signals, largest, 0), "sizes": sizes, "names": list(names)}
    if seeds:
        batch["seeds"] = list(seeds[0])
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
