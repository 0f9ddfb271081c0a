"""When checkpoints are written: after every epoch, every so many minutes, and when a signal asks the run to stop."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from foundation.durations import seconds
from foundation.structures import InputError
from resmet.callbacks.signals import Ear, Stopped
from resmet.checkpoints.checkpoint_io import WholeFiles, sweep
from resmet.checkpoints.layout import BEST, LAST
from resmet.checkpoints.resume import excluded_names, marks

SHARE = 0.1
"""Of the time, at most this much goes into checkpoints at the ends of short epochs."""


class Saving(Checkpoint):
    """Write ``best.ckpt`` (weights of the best score) and ``last.ckpt`` (everything, to go on from any step).

    A position is the end of a step, the start of a validation, or the end of an epoch; a run goes on from each to the same bits.
    Processes agree at the end of every step on whether to save or to stop, so that all do it at the same one.

    Args:
        every: Longest time between two checkpoints, such as ``90s``, ``10m`` or ``2h``.
        keep: Earlier ones of ``last.ckpt`` that stay beside it.
        on_failure: What a checkpoint that can't be written does: ``continue`` says so and goes on, ``stop`` ends the run.
        background: Write from a copy beside the training, rather than let it wait.

    Raises:
        InputError: If `every` is no time, or `keep` is negative.
    """

    def __init__(
        self,
        every: str = "10m",
        keep: int = 1,
        on_failure: Literal["continue", "stop"] = "continue",
        background: bool = True,
    ) -> None:
        if keep < 0:
            raise InputError(f"callbacks.saving.keep must not be negative, got {keep}")
        self.every, self.keep, self.stop, self.background = (
            seconds(every, "every", "time between checkpoints"),
            keep,
            on_failure == "stop",
            background,
        )
        self.ear: Ear | None = None
        self.best = -math.inf
        self.saved = time.monotonic()
        self.took = 0.0
        self.where = "epoch"
        self.group: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder = Path(trainer.default_root_dir) / "checkpoints"
        plugin = trainer.strategy.checkpoint_io
        if isinstance(plugin, WholeFiles):
            plugin.keep, plugin.stop = self.keep, self.stop
        if stage == "fit" and trainer.is_global_zero:
            sweep(self.folder)

    def listen(self, trainer: Trainer) -> None:
        """Hear signals; Lightning has set its own handlers by now, which are replaced."""
        if self.ear is None:
            launcher: Any = trainer.strategy.launcher
            self.ear = Ear(launcher.kill if launcher is not None else lambda signum: None)
        self.ear.listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.listen(trainer)
        self.marks = marks(trainer.datamodule)  # type: ignore[attr-defined]
        self.saved = time.monotonic()
        if trainer.world_size > 1 and self.group is None:
            self.group = torch.distributed.new_group(backend="gloo")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ended = batch_idx + 1
        if ended >= trainer.num_training_batches or ended % trainer.accumulate_grad_batches:
            return  # the epoch's end has a position of its own; half gathered gradients have none
        self.save_if_due(trainer, "batch")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.save_if_due(trainer, "validation")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # Several processes judge unequal numbers of batches: they can agree only when all are done.
        if trainer.world_size == 1 and self.ear and self.ear.caught:
            if trainer.state.fn == "fit":
                self.save(trainer, "validation")
            raise Stopped(self.ear.caught)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.listen(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.ear and self.ear.caught:
            raise Stopped(self.ear.caught)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights as they were judged."""
        if trainer.state.fn != "fit":
            return
        score = float(trainer.callback_metrics["val/score"])
        # Not by whether the file is there: it may be on its way, and all processes must decide alike.
        if score > self.best or self.best == -math.inf:
            self.best = score if math.isfinite(score) else self.best
            trainer.save_checkpoint(self.folder / BEST, weights_only=True, storage_options=self.beside(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        final = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        rested = time.monotonic() - self.saved
        self.save_if_due(trainer, "epoch", final or rested * SHARE >= self.took)

    def save_if_due(self, trainer: Trainer, where: str, due: bool = False) -> None:
        """Save where any process has to, then stop where any was asked to."""
        due = due or time.monotonic() - self.saved > self.every
        signum, due = self.agree(self.ear.caught if self.ear else 0, due)
        if signum or due:
            self.save(trainer, where, wait=bool(signum))
        if signum:
            raise Stopped(signum)

    def agree(self, signum: int, due: bool) -> tuple[int, bool]:
        """The same answer for all processes."""
        if self.group is None:
            return signum, due
        said = torch.tensor([signum, int(due)])
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(said[0]), bool(said[1])

    def save(self, trainer: Trainer, where: str, wait: bool = True) -> None:
        self.where = where
        began = time.monotonic()
        options = None if wait else self.beside(trainer)
        trainer.save_checkpoint(self.folder / LAST, weights_only=False, storage_options=options)
        self.saved = time.monotonic()
        self.took = self.saved - began

    def beside(self, trainer: Trainer) -> dict[str, bool] | None:
        return {"background": True} if self.background else None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Say where the run is, in the data's own terms."""
        ended = self.where == "epoch"
        loops = checkpoint["loops"]["fit_loop"]
        batch = loops["epoch_loop.batch_progress"]["current"]["ready"]
        pl_module.run_state.move_to(trainer.current_epoch + ended, 0 if ended else batch)
        checkpoint["position"] = {
            "epoch": trainer.current_epoch + ended,
            "batch": 0 if ended else batch,
            "batches": int(trainer.num_training_batches),
            "processes": trainer.world_size,
            "stopped": bool(trainer.should_stop),
            "precision": str(trainer.precision),
        }
        checkpoint["items"] = self.marks
        checkpoint["excluded_names"] = excluded_names(trainer.datamodule)  # type: ignore[attr-defined]
        if self.where == "validation":  # as if its first item were being judged: the whole of it comes again
            judged = loops["epoch_loop.val_loop.batch_progress"]
            judged["current"] = dict.fromkeys(judged["current"], 0)
            judged["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.should_stop = checkpoint["position"]["stopped"]  # by early stopping, which would not say so again

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.rest()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.rest()

    def rest(self) -> None:
        if self.ear:
            self.ear.rest()
