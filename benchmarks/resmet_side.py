"""Resmet's side: ``train.py`` with the overrides that a user would type, in this process, with one more callback that measures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule
from omegaconf import DictConfig

from datamodules.base.datamodule import DataModule
from resmet.assembly import assemble_data, build
from resmet.commands import train

ROOT = Path(__file__).parent.parent
IMAGE_AUGMENTATION = ("horizontal_flip", "vertical_flip", "degrees", "scale", "translate", "color_jitter")
NO_AUGMENT = tuple(f"data.augment.{key}=0" for key in IMAGE_AUGMENTATION)
NO_AUDIO_AUGMENT = tuple(f"data.augment.{key}=0" for key in ("shift", "gain", "noise", "time_mask"))


def compose_train(overrides: Sequence[str] = ()) -> DictConfig:
    """Returns the config of ``python train.py OVERRIDES``."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def run_train(
    overrides: Sequence[str], scratch: Path, callback: Callback | None = None, repeat: Repeat | None = None
) -> Path:
    """Does what ``python train.py OVERRIDES`` does; returns the run's folder.

    Args:
        overrides: The words after ``train.py``.
        scratch: Where the run's folder is made.
        callback: Runs last, so that it sees the end of what all others do.
        repeat: If given, training batches come from memory.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch)) / "run"
    cfg = compose_train([*overrides, "callbacks.visualize=null", f"run_dir={folder}"])
    with ExitStack() as stack:
        extra = [callback] if callback else []
        stack.enter_context(patch.object(LightningModule, "configure_callbacks", lambda self: extra))
        if repeat:
            original = DataModule.train_dataloader
            first_batches = lambda data: RepeatedLoader(original(data), repeat)  # noqa: E731
            stack.enter_context(patch.object(DataModule, "train_dataloader", first_batches))
        train.run(cfg)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return folder


class Repeat:
    """Repeats the first batches of the training loader, from memory.

    Args:
        batches: Number of different batches.
        steps: Batches of an epoch.
        device: Where the batches are.
    """

    def __init__(self, batches: int, steps: int, device: str = "cpu") -> None:
        self.batches, self.steps, self.device = batches, steps, device


class RepeatedLoader:
    """The first batches of a loader, repeated. Every other attribute is the loader's."""

    def __init__(self, loader: Any, repeat: Repeat) -> None:
        self.loader, self.steps = loader, repeat.steps
        self.batches = [move_data_to_device(dict(batch), repeat.device) for batch in islice(loader, repeat.batches)]
        if hasattr(loader, "close"):
            loader.close()  # its workers would prefetch on

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.steps):
            yield dict(self.batches[index % len(self.batches)])


def load_data(overrides: Sequence[str]) -> tuple[DictConfig, Any]:
    """Returns the config of ``python train.py OVERRIDES`` and its data module, set up."""
    cfg = compose_train(overrides)
    data = assemble_data(cfg)
    data.setup("fit")
    return cfg, data


def precision_of(cfg: DictConfig) -> str:
    """Returns the precision that a config trains with on this machine."""
    return str(build(cfg.trainer).arguments()["precision"])


def limit_batches(count: int) -> tuple[str, ...]:
    """Overrides for `count` batches of every split."""
    return tuple(f"trainer.limit_{stage}_batches={count}" for stage in ("train", "val", "test"))


def epochs_with_warmup(rounds: int) -> tuple[str, ...]:
    """Overrides for `rounds` epochs after one that warms up, with validation at the end only."""
    return (f"trainer.max_epochs={rounds + 1}", f"trainer.check_val_every_n_epoch={rounds + 1}")
