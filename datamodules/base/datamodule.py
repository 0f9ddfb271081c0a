"""The base class of all data, with or without parts, as tasks, callbacks and commands use it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datamodules.transforms.augment import Augment
from foundation.contracts import DataPart
from foundation.run_state import RunState
from foundation.structures import NO_LIGHTNING, Spec

if TYPE_CHECKING or NO_LIGHTNING not in os.environ:
    from lightning.pytorch import LightningDataModule
else:

    class LightningDataModule:
        """The base class in a process without a Trainer: the import of Lightning and of all that it imports takes 2.5 s."""

        trainer = None


STAGES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "fit": (("train", "val", "test"), ("train", "val")),
    "validate": (("val",), ("val",)),
    "test": (("test",), ("test",)),
    "predict": ((), ()),
}
"""{Lightning's stage: (splits that are read, those of them that must have items)}. Errors in test data are raised before training."""


class DataModule(LightningDataModule, ABC):
    """Data of a task. A task needs its `spec`, so call ``data.setup("fit")`` before it is built; a Trainer calls it again without effect.

    Attributes:
        ndim: Axes of the input: 1 for audio, 2 for images.
        target: The kind of the items' targets, as in `Spec.target`.
        spec: Shape, classes and statistics of the data; set by `setup`.
        notes: What a person should know about what was read.
        skipped: The error of every item that was skipped.
        datasets: The splits that have items; of joint data, without the items.
        run_state: The state of the run that this data is for.
    """

    ndim = 2
    target = "label"
    spec: Spec

    def __init__(self) -> None:
        super().__init__()
        # A split may have fewer items than there are ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.notes: list[str] = []
        self.skipped: list[str] = []
        self.run_state = RunState()
        self.datasets: Mapping[str, Any] = {}

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, DataPart]:
        """The parts of joint data by name; other data is its only part, without a name."""

    @abstractmethod
    def setup_splits(self, splits: Sequence[str], required: Sequence[str]) -> None:
        """Reads and checks all items of `splits`; raises InputError if any is invalid, or a split of `required` has none."""

    @abstractmethod
    def check_world_size(self, world_size: int) -> None:
        """Raises InputError if there are fewer training items than ranks. Call it after `setup`."""

    @abstractmethod
    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        """Reads the data like that of a checkpoint: same target, classes, channels and sizes. Call it before `setup`.

        Other data than the checkpoint was trained on is evaluated as a whole if it has no splits.
        """

    @abstractmethod
    def dataloader(self, split: str) -> Any:
        """Returns the batches of a split; in order and complete unless it is ``train``."""

    @abstractmethod
    def describe(self) -> str:
        """Returns the number of items per split and the classes, in one line."""

    @abstractmethod
    def disable_augmentation(self) -> None:
        """Leaves training items unchanged from now on."""

    @abstractmethod
    def bind(self, run_state: RunState) -> None:
        """Shares the state of a run."""

    def setup(self, stage: str) -> None:
        """Reads and checks the splits of a stage, unless that is done, and binds the state of the task's run."""
        splits, required = STAGES[stage]
        if not set(required) <= set(self.datasets):
            self.setup_splits(splits, required)
        if self.trainer is None:
            return
        state = getattr(self.trainer.lightning_module, "run_state", None)
        if isinstance(state, RunState):
            self.bind(state)
        if stage == "fit":
            self.check_world_size(self.trainer.world_size)

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Items per batch and rank, by part."""
        return {name: part.current_batch_size for name, part in self.parts.items()}

    @property
    def current_batch_size(self) -> int:
        """Items per step and rank; of joint data, of all parts together."""
        return sum(self.batch_sizes.values())

    @property
    def no_augment_epochs(self) -> int:
        """The number of epochs at the start in which training items are not augmented."""
        return max(part.no_augment_epochs for part in self.parts.values())

    @property
    def can_disable_augmentation(self) -> bool:
        """Whether training items may be left unchanged: a random crop is also what makes large images small enough."""
        augments = (part.augment for part in self.parts.values())
        return not any(isinstance(augment, Augment) and augment.random_crop for augment in augments)

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("")

    def train_dataloader(self) -> Any:
        return self.dataloader("train")

    def val_dataloader(self) -> Any:
        return self.dataloader("val")

    def test_dataloader(self) -> Any:
        return self.dataloader("test")
