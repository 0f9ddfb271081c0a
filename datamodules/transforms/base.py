"""How training items are changed: what becomes of each is drawn alone, and made of a whole batch at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from datamodules.loading.collate import CHANGES, join
from foundation.structures import Batch, Spec

Drawn = tuple[Tensor, Any, Sequence[float] | None]
"""An input, its target, and the numbers of what is still to be made of them; None where that is nothing."""


class Change(ABC):
    """Random changes of items, the same whatever company an item is in.

    `draw` makes the choices, from the item's own generator, in whatever process loads. `make` works on the batch where it is used: on
    a GPU where there is one, and with less to say for every item.
    """

    @property
    def by_batch(self) -> bool:
        """Whether `draw` and `make` are all of it; else an item is changed by calling this."""
        return True

    @abstractmethod
    def draw(self, signal: Tensor, target: Any, generator: Generator) -> Drawn:
        """Cut-outs and boxes are dealt with at once, the rest is said in numbers for `make`."""

    @abstractmethod
    def make(self, batch: Batch, changes: Tensor) -> None:
        """Change a batch in place, by a row of numbers an item, float64 (N, K) in the computer's own memory."""

    @abstractmethod
    def suits(self, spec: Spec) -> None:
        """Refuse data that can't be changed so.

        Raises:
            InputError: If there is a change that would make input and target disagree.
        """

    def __call__(self, signal: Tensor, target: Any, generator: Generator) -> tuple[Tensor, Any]:
        """A changed copy of one item."""
        signal, target, row = self.draw(signal, target, generator)
        if row is None:
            return signal, target
        batch: Any = join([(signal, target, "", 0, row)])
        self.make(batch, batch.pop(CHANGES))
        alone = isinstance(target, Tensor) and target.ndim > 1
        return batch["input"][0], batch["target"][0] if alone else target


def numbers(generator: Generator, *ranges: tuple[float, float]) -> list[float]:
    """One number from each (low, high), drawn at once: one call costs less than ten."""
    shares = torch.rand(len(ranges), generator=generator, dtype=torch.float64).tolist()
    return [low + (high - low) * share for (low, high), share in zip(ranges, shares, strict=True)]
