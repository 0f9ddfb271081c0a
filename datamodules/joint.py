"""Several kinds of data side by side, each with its own batch."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import CombinedLoader

from datamodules.base.datamodule import DataModule, Item, Sample
from foundation.run_state import RunState
from foundation.structures import InputError, Spec


class JointDataModule(DataModule):
    """A batch of every part at each training step; an epoch takes the longest part once, the others start again.

    Args:
        parts: {part: data}; all with the same number of axes and of channels.

    Raises:
        InputError: If there is no part, or axes or channels differ.
    """

    def __init__(self, parts: Mapping[str, DataModule]) -> None:
        if not parts:
            raise InputError("data=joint has no parts: name at least one")
        items = sum(part.batch_size for part in parts.values())
        super().__init__(items, 0, False, 0, lambda signal, target, generator: (signal, target))
        self.members = dict(parts)

    @property
    def parts(self) -> dict[str, DataModule]:
        return self.members

    @property
    def batch_size(self) -> int:
        return sum(self.batch_sizes.values())

    def bind(self, run_state: RunState, part: str = "") -> None:
        super().bind(run_state, part)
        for name, member in self.parts.items():
            member.bind(run_state, name)

    kind = "parts"

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        for name, part in self.parts.items():
            if name not in spec.parts:
                raise InputError(f"the checkpoint knows the parts {sorted(spec.parts)}, not {name}: name them alike")
            part.use_spec(spec.parts[name], other_data)

    def prepare(self, splits: Any = ("train", "val", "test"), required: Any = ("train", "val")) -> None:
        for name, part in self.parts.items():
            part.prepare(splits, required)
            self.notes.extend(f"{name}: {note}" for note in part.notes)
            self.skipped.extend(f"{name}: {message}" for message in part.skipped)
        specs = {name: part.spec for name, part in self.parts.items()}
        shapes = {name: (spec.ndim, spec.channels) for name, spec in specs.items()}
        if len(set(shapes.values())) > 1:
            raise InputError(
                f"the parts share one backbone, but their (axes, channels) differ: {shapes}: set data.parts.NAME.channels alike"
            )
        ndim, channels = next(iter(shapes.values()))
        self.spec = Spec(ndim, channels, target="parts", parts=specs)
        self.datasets = {name: [] for name in splits if any(name in part.datasets for part in self.parts.values())}  # type: ignore[misc]
        for split in self.datasets:
            if lacking := [name for name, part in self.parts.items() if split not in part.datasets]:
                self.notes.append(f"{', '.join(lacking)} has no {split} split and is left out of its mean")

    def read(self) -> dict[str, list[Item]]:
        raise NotImplementedError("joint data is read part by part, see prepare")

    def load(self, item: Item) -> Sample:
        raise NotImplementedError("joint data is loaded part by part")

    def disable_augmentation(self) -> None:
        for part in self.parts.values():
            part.disable_augmentation()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return {
            name: own and self.parts[name].transfer_batch_to_device(own, device, dataloader_idx)
            for name, own in batch.items()
        }

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {
            name: own and self.parts[name].on_after_batch_transfer(own, dataloader_idx) for name, own in batch.items()
        }

    def teardown(self, stage: str) -> None:
        for part in self.parts.values():
            part.teardown(stage)

    def describe(self) -> str:
        return "; ".join(f"{name}: {part.describe()}" for name, part in self.parts.items())

    def check_world_size(self, processes: int) -> None:
        for part in self.parts.values():
            part.check_world_size(processes)

    def dataloader(self, split: str) -> Any:
        # The number of processes is known by now.
        longest = (
            max(part.batch_sampler("train").round_length() for part in self.parts.values())
            if split == "train"
            else None
        )
        for part in self.parts.values():
            part.load_beside(self.trainer, len(self.parts), longest)
        loaders = {name: part.dataloader(split) for name, part in self.parts.items() if split in part.datasets}
        return CombinedLoader(loaders, "min_size" if split == "train" else "max_size")
