"""Our side: `train.py` with the words that a user would type, in this process, and one more callback that looks on."""

from __future__ import annotations

import random
import shutil
import string
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule
from omegaconf import DictConfig

from datamodules.base.datamodule import DataModule
from resmet.assembly import assemble_data
from resmet.commands import train

ROOT = Path(__file__).parent.parent
QUIET = ("callbacks.pictures=null",)  # they are drawn after the training
STILL = tuple(
    f"data.augment.{change}=0"
    for change in ("horizontal_flip", "vertical_flip", "degrees", "scale", "translate", "color_jitter")
)
STILL_SOUND = tuple(f"data.augment.{change}=0" for change in ("shift", "gain", "noise", "time_mask"))


def compose(words: Sequence[str]) -> DictConfig:
    """The config that ``python train.py WORDS`` would have."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra_compose("train", overrides=list(words))


def has(key: str) -> bool:
    """Whether this project has a key at the top of its config."""
    return key in compose(())


def run(words: Sequence[str], scratch: Path, beside: Callback, memory: Memory | None = None) -> Path:
    """What ``python train.py WORDS`` does, with `beside` looking on; the run's folder.

    Args:
        words: The words.
        scratch: Where the run's folder is made.
        beside: What looks on. It comes last, so that it sees the end of what all others do.
        memory: Where given, training batches come from memory as it says.
    """
    folder = scratch / f"run-{''.join(random.Random().choices(string.ascii_lowercase, k=8))}"
    cfg = compose([*words, *QUIET, f"run_dir={folder}"])
    with ExitStack() as stack:
        stack.enter_context(patch.object(LightningModule, "configure_callbacks", lambda self: [beside]))
        if memory:
            stack.enter_context(patch.object(DataModule, "train_dataloader", memory.over(DataModule.train_dataloader)))
        train.run(cfg)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return folder


class Memory:
    """The first batches of the training loader, again and again.

    Args:
        kept: How many different batches.
        steps: Batches of an epoch.
        device: Where they are kept.
    """

    def __init__(self, kept: int, steps: int, device: str = "cpu") -> None:
        self.kept, self.steps, self.device = kept, steps, device

    def over(self, make: Any) -> Any:
        """In place of `make`, which makes a data's training loader."""
        return lambda data: Repeated(make(data), self.kept, self.steps, self.device)


class Repeated:
    """A loader's first batches, again and again; anything else that is asked of it is asked of the loader."""

    def __init__(self, loader: Any, kept: int, steps: int, device: str = "cpu") -> None:
        self.loader, self.steps = loader, steps
        self.batches = [move_data_to_device(dict(batch), device) for batch in islice(loader, kept)]
        if hasattr(loader, "close"):
            loader.close()  # its workers would go on reading ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.steps):
            yield dict(self.batches[index % len(self.batches)])


def prepared(words: Sequence[str]) -> tuple[DictConfig, Any]:
    """The config of these words and its data, read and checked."""
    cfg = compose(words)
    data = assemble_data(cfg)
    data.prepare()
    return cfg, data


def rounds_of_epochs(rounds: int) -> tuple[str, ...]:
    """So many epochs after one that warms up, validated at the end alone."""
    return (f"trainer.max_epochs={rounds + 1}", f"trainer.every={rounds + 1}")
