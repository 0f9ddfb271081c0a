"""The interface of random transforms: parameters are drawn per item, most of the work is done on a whole batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from foundation.structures import Batch, Spec
from foundation.targets.base import TargetKind

Params = tuple[Tensor, Any, Sequence[float] | None]
"""An input, its target, and the parameters for `RandomTransform.transform`; None if nothing is left to transform."""


class RandomTransform(ABC):
    """Random transforms of items; an item's result does not depend on the batch it is in.

    As in torchvision v2, `make_params` draws the parameters and `transform` applies them. Parameters come from the item's own generator, in
    the process that loads it. `transform` runs on the batch where it is used: on the GPU if there is one, and with less overhead per item.
    """

    @property
    def batched(self) -> bool:
        """Whether `make_params` and `transform` are the whole transform; otherwise call this object on every item."""
        return True

    @abstractmethod
    def make_params(self, signal: Tensor, target: Any, generator: Generator, kind: TargetKind) -> Params:
        """Draws the parameters of an item; crops and boxes are transformed at once, since they change sizes and counts."""

    @abstractmethod
    def transform(self, batch: Batch, params: Tensor, kind: TargetKind) -> None:
        """Transforms a batch in place; `params` has one row per item, float64 (N, K) on the CPU."""

    @abstractmethod
    def check_spec(self, spec: Spec) -> None:
        """Refuses data that this can't be applied to.

        Raises:
            InputError: If input and target would no longer agree.
        """

    def __call__(self, signal: Tensor, target: Any, generator: Generator, kind: TargetKind) -> tuple[Tensor, Any]:
        """Returns a transformed copy of one item."""
        signal, target, params = self.make_params(signal, target, generator, kind)
        if params is None:
            return signal, target
        batch: Any = {"input": signal[None].clone(), "sizes": [tuple(signal.shape[1:])]}
        batch["target"] = kind.collate([target], batch["sizes"][0])
        self.transform(batch, torch.tensor([params], dtype=torch.float64), kind)
        pixels = kind.pixel_map(batch["target"])
        return batch["input"][0], target if pixels is None else pixels[0]


def uniform(generator: Generator, *ranges: tuple[float, float]) -> list[float]:
    """Draws one number from each (low, high) by a single call of the generator, which costs less than one call each."""
    fractions = torch.rand(len(ranges), generator=generator, dtype=torch.float64).tolist()
    return [low + (high - low) * fraction for (low, high), fraction in zip(ranges, fractions, strict=True)]
