"""Resmet's side: ``train.py`` with the overrides that a user would type, in this process, paused while the rival runs its rounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch.utils.benchmark.utils.timer import timer

from benchmarks.measure import ROOT, Result, Settings, compare, timed
from datamodules.base.datamodule import DataModule
from resmet.assembly import assemble_data, build
from resmet.commands import train

IMAGE_AUGMENTATION = ("horizontal_flip", "vertical_flip", "degrees", "scale", "translate", "color_jitter")
NO_AUGMENT = tuple(f"data.augment.{key}=0" for key in IMAGE_AUGMENTATION)
NO_AUDIO_AUGMENT = tuple(f"data.augment.{key}=0" for key in ("shift", "gain", "noise", "time_mask"))
THREADS = torch.get_num_threads()


def compose_train(overrides: Sequence[str] = ()) -> DictConfig:
    """Returns the config of ``python train.py OVERRIDES``."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def load_data(overrides: Sequence[str]) -> tuple[DictConfig, Any]:
    """Returns the config of ``python train.py OVERRIDES`` and its data module, set up."""
    cfg = compose_train(overrides)
    data = assemble_data(cfg)
    data.setup("fit")
    return cfg, data


def precision_of(cfg: DictConfig) -> str:
    """Returns the precision that a config trains with on this machine."""
    return str(build(cfg.trainer).arguments()["precision"])


class RepeatedLoader:
    """The first `batches` batches of a loader, repeated for `steps` steps, from memory. Every other attribute is the loader's."""

    def __init__(self, loader: Any, batches: int, steps: int, device: str = "cpu") -> None:
        self.loader, self.steps = loader, steps
        self.batches = [move_data_to_device(dict(batch), device) for batch in islice(loader, batches)]
        if hasattr(loader, "close"):
            loader.close()  # its workers would prefetch on

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.steps):
            yield dict(self.batches[index % len(self.batches)])


def run_train(
    overrides: Sequence[str],
    scratch: Path,
    *callbacks: Callback,
    wrap_loader: Callable[[Any], Any] = lambda loader: loader,
) -> Path:
    """Does what ``python train.py OVERRIDES`` does; returns the run's folder, in `scratch`.

    Args:
        callbacks: They run last, so that they see the end of what all others do.
        wrap_loader: Applied to the loader of the training batches, such as a partial of `RepeatedLoader`.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch)) / "run"
    make_loader = DataModule.train_dataloader
    with (
        patch.object(LightningModule, "configure_callbacks", lambda self: list(callbacks)),
        patch.object(DataModule, "train_dataloader", lambda data: wrap_loader(make_loader(data))),
    ):
        train.run(compose_train([*overrides, "callbacks.visualize=null", f"run_dir={folder}"]))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return folder


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Gives the rival torch's defaults, as in a script of its own: no autocast, all threads, full matmul precision."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(THREADS)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


class Interleave(Callback):
    """Runs a round of the rival before every round of Resmet, and times both. The first round of each warms up.

    An epoch is timed from the request for its first batch to the end of its last step.

    Args:
        make_rival: Returns a function that runs `size` steps, or an epoch, of the rival, given the trainer.
        size: Steps of a round; None for whole epochs.
    """

    def __init__(self, make_rival: Callable[[Trainer], Callable[[], Any]], size: int | None = None) -> None:
        self.make_rival, self.size = make_rival, size
        self.created = self.start = timer()
        self.rival: Callable[[], Any] | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.scores: list[tuple[float, float]] = []
        """The score of every validation, and the seconds until then without the rival's."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.rival is None:
            self.scan_seconds = timer() - self.created
            self.rival = self.make_rival(trainer)
        self.begin_round(self.rival)

    def begin_round(self, rival: Callable[[], Any]) -> None:
        with torch_defaults():
            self.theirs.append(timed(rival))
        self.start = timer()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        steps = int(trainer.num_training_batches)
        if self.rival and (batch_idx + 1) % (self.size or steps) == 0:
            self.ours.append(timer() - self.start)
            if batch_idx + 1 < steps:
                self.begin_round(self.rival)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score = trainer.callback_metrics.get("val/score")
        if score is not None and trainer.state.fn == "fit":
            self.scores.append((float(score), timer() - self.created - sum(self.theirs)))


def limit_batches(count: int) -> tuple[str, ...]:
    """Overrides for `count` batches of every split."""
    return tuple(f"trainer.limit_{stage}_batches={count}" for stage in ("train", "val", "test"))


def epochs_with_warmup(rounds: int) -> tuple[str, ...]:
    """Overrides for `rounds` epochs after one that warms up, with validation at the end only."""
    return (f"trainer.max_epochs={rounds + 1}", f"trainer.check_val_every_n_epoch={rounds + 1}")


def compare_epochs(overrides: Sequence[str], rival: Callable[[], Any], items: int, settings: Settings) -> Result:
    """Alternates epochs of the rival and of Resmet; a note has the first epoch of each."""
    clock = Interleave(lambda trainer: rival)
    run_train([*overrides, *epochs_with_warmup(settings.rounds)], settings.scratch, clock)
    first = f"first epoch {items / clock.ours[0]:.3g} items/s against {items / clock.theirs[0]:.3g}"
    notes = [first, f"scan of the data {clock.scan_seconds:.1f} s"]
    return compare(clock.ours[1:], clock.theirs[1:], "items/s", lambda seconds: items / seconds, notes)


def interleave_steps(
    overrides: Sequence[str],
    make_step: Callable[[Trainer], Callable[[], Any]],
    size: int,
    rounds: int,
    scratch: Path,
    batches: int = 2,
    device: str = "cpu",
) -> Interleave:
    """Alternates rounds of `size` steps of the rival and of Resmet, on `batches` batches in memory, after one that warms up."""

    def make_round(trainer: Trainer) -> Callable[[], Any]:
        step = make_step(trainer)
        return lambda: [step() for _ in range(size)]

    clock = Interleave(make_round, size)
    repeat = partial(RepeatedLoader, batches=batches, steps=size * (rounds + 1), device=device)
    run_train([*overrides, "trainer.max_epochs=1"], scratch, clock, wrap_loader=repeat)
    return clock
