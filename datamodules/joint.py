"""Several data sets at once, each with its own batches."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from datamodules.base.datamodule import DataModule
from datamodules.base.items import ItemDataModule
from foundation.run_state import RunState
from foundation.structures import InputError, Spec

if TYPE_CHECKING:
    from lightning.pytorch.utilities import CombinedLoader


class JointDataModule(DataModule):
    """A batch of every part at each training step. An epoch takes the longest part once; the others are repeated.

    Args:
        parts: {part: data}; all with the same number of axes and of channels.

    Raises:
        InputError: If there is no part, or axes or channels differ.
    """

    target = "parts"

    def __init__(self, parts: Mapping[str, ItemDataModule]) -> None:
        super().__init__()
        if not parts:
            raise InputError("data.no_parts", "data=joint has no parts: name at least one")
        self.members = dict(parts)

    @property
    def parts(self) -> Mapping[str, ItemDataModule]:
        return self.members

    @property
    def batch_size(self) -> int:
        """Items per step and rank, as configured."""
        return sum(part.batch_size for part in self.parts.values())

    def bind(self, run_state: RunState) -> None:
        self.run_state = run_state
        for name, part in self.parts.items():
            part.bind(run_state, name)

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        for name, part in self.parts.items():
            if name not in spec.parts:
                message = f"the checkpoint has the parts {sorted(spec.parts)}, not {name}: use the same names"
                raise InputError("data.other_parts", message)
            part.use_spec(spec.parts[name], other_data)

    def setup_splits(self, splits: Sequence[str], required: Sequence[str]) -> None:
        for name, part in self.parts.items():
            part.setup_splits(splits, required)
            self.notes.extend(f"{name}: {note}" for note in part.notes)
            self.skipped.extend(f"{name}: {message}" for message in part.skipped)
        specs = {name: part.spec for name, part in self.parts.items()}
        shapes = {name: (spec.ndim, spec.channels) for name, spec in specs.items()}
        if len(set(shapes.values())) > 1:
            message = f"the parts share one backbone, but their (axes, channels) differ: {shapes}: set the same data.parts.NAME.channels"
            raise InputError("data.parts_differ", message)
        ndim, channels = next(iter(shapes.values()))
        self.spec = Spec(ndim, channels, target="parts", parts=specs)
        self.datasets = {name: [] for name in splits if any(name in part.datasets for part in self.parts.values())}
        for split in self.datasets:
            if missing := [name for name, part in self.parts.items() if split not in part.datasets]:
                self.notes.append(f"{', '.join(missing)} has no {split} split and is not part of its mean")

    def check_world_size(self, world_size: int) -> None:
        for part in self.parts.values():
            part.check_world_size(world_size)

    def describe(self) -> str:
        return "; ".join(f"{name}: {part.describe()}" for name, part in self.parts.items())

    def disable_augmentation(self) -> None:
        for part in self.parts.values():
            part.disable_augmentation()

    def dataloader(self, split: str) -> "CombinedLoader":
        from lightning.pytorch.utilities import CombinedLoader  # takes 2.5 s

        length = None
        if split == "train":  # the number of ranks is known by now
            length = max(part.batch_sampler("train").steps_per_pass() for part in self.parts.values())
        for part in self.parts.values():
            part.configure_as_part(self.trainer, len(self.parts), length)
        loaders = {name: part.dataloader(split) for name, part in self.parts.items() if split in part.datasets}
        return CombinedLoader(loaders, "min_size" if split == "train" else "max_size")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return {
            name: part_batch and self.parts[name].transfer_batch_to_device(part_batch, device, dataloader_idx)
            for name, part_batch in batch.items()
        }

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {
            name: part_batch and self.parts[name].on_after_batch_transfer(part_batch, dataloader_idx)
            for name, part_batch in batch.items()
        }

    def teardown(self, stage: str) -> None:
        for part in self.parts.values():
            part.teardown(stage)
