"""Protocols of data, for code that does not import the data modules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from foundation.structures import Spec


class SplitItems(Protocol):
    """The items of one split."""

    @property
    def items(self) -> Sequence[Any]: ...

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Returns a digest of the names and sizes of the items, which a resumed run compares."""


@runtime_checkable
class TrainingData(Protocol):
    """The data module of a run, as a task sees it."""

    @property
    def batch_size(self) -> int:
        """Items per batch and rank, as configured."""

    @property
    def current_batch_size(self) -> int:
        """Items per batch and rank: as configured, unless the run has chosen another number."""

    @property
    def can_disable_augmentation(self) -> bool:
        """Whether training items may be left unchanged."""


class DataPart(Protocol):
    """Data whose items are all of one kind: a part of joint data, or data without parts."""

    @property
    def spec(self) -> Spec:
        """Describes the data."""

    @property
    def augment(self) -> Any:
        """The random transform of training items."""

    @property
    def num_workers(self) -> int | None:
        """DataLoader workers as configured; None chooses."""

    @property
    def cache_mode(self) -> str:
        """Where decoded items are cached: ``ram``, ``disk``, ``auto`` or ``off``."""

    @property
    def in_memory(self) -> bool:
        """Whether no item has to be decoded again."""

    @property
    def can_pack(self) -> bool:
        """Whether its items are files, which load faster from shards."""

    @property
    def datasets(self) -> Mapping[str, SplitItems]:
        """The splits that have items."""

    @property
    def loaders(self) -> Collection[Any]:
        """The loaders that are in use."""

    @property
    def excluded_names(self) -> list[str]:
        """The names of the items that were excluded when they were first opened."""

    @property
    def no_augment_epochs(self) -> int:
        """The number of epochs at the start in which training items are not augmented."""

    @property
    def current_batch_size(self) -> int:
        """Items per batch and rank: as configured, unless the run has chosen another number."""

    def dataloader(self, split: str) -> Any:
        """Returns the batches of a split; in order and complete unless it is ``train``."""

    def exclude_items(self, names: set[str], spec: Spec | None) -> None:
        """Excludes the items that an earlier part of the run excluded, and no others. Call it before `setup`."""
