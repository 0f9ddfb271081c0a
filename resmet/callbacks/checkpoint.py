"""When checkpoints are written: after every epoch, after a span of time, and when a signal asks the run to stop."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from foundation.durations import seconds
from foundation.parallel.collectives import reduce_over_ranks
from foundation.structures import RunError, require_range
from resmet.callbacks.signals import SignalListener, Stopped
from resmet.checkpoints import lightning_state
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO, remove_partial
from resmet.checkpoints.layout import BEST, LAST, resume_hint
from resmet.checkpoints.lightning_state import data_of, task_of
from resmet.checkpoints.resume import excluded_names, fingerprints

Moment = Literal["batch", "validation", "epoch"]
"""After which part of the training a checkpoint is written."""

MAX_SAVE_FRACTION = 0.1
"""Fraction of the time that checkpoints at the ends of short epochs may take."""

log = logging.getLogger("resmet")


class CheckpointWriter(Checkpoint):
    """Writes ``best.ckpt`` (the weights of the best score) and ``last.ckpt`` (everything that a run needs to resume).

    A run resumes bit for bit from the end of a step, the start of a validation or the end of an epoch. At the end of every step all
    ranks agree on whether to save or to stop, so that they do it at the same step.

    ``last.ckpt`` never holds a best score whose ``best.ckpt`` is not on disk: where that can't be written, the one before counts as the
    best, and the ``last.ckpt`` that was due next is skipped, so that a run resumed from the one before repeats those steps.

    Args:
        every: Longest time between two checkpoints, such as ``90s``, ``10m`` or ``2h``.
        keep: Number of earlier versions of ``last.ckpt``, at least 0.
        on_failure: Whether the run continues (``continue``) or stops (``stop``) where a checkpoint can't be written.
        background: Whether to write a copy in a thread, rather than pause training.

    Attributes:
        best: The score of the weights in ``best.ckpt``; -inf before there is one.
    """

    def __init__(
        self,
        every: str = "10m",
        keep: int = 1,
        on_failure: Literal["continue", "stop"] = "continue",
        background: bool = True,
    ) -> None:
        require_range("callbacks.checkpoint.keep", keep, 0)
        self.every = seconds(every, "checkpoint_every")
        self.stop_on_failure, self.background = on_failure == "stop", background
        self.io, self.listener = AtomicCheckpointIO(keep), SignalListener()
        self.best = -math.inf
        self.previous_best: float | None = None  # while best.ckpt is being written
        self.saved_at, self.save_seconds = 0.0, 0.0
        self.moment: Moment = "epoch"
        self.group: torch.distributed.ProcessGroup | int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder, self.clock = Path(trainer.default_root_dir) / "checkpoints", task_of(pl_module).run_state.clock
        self.listener = SignalListener(partial(lightning_state.kill_ranks, trainer))
        if stage == "fit" and trainer.is_global_zero:
            remove_partial(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.listener.start()  # Lightning has installed its own handlers by now, which this replaces
        self.fingerprints, self.saved_at = fingerprints(data_of(trainer)), self.clock.now()
        if trainer.world_size > 1 and self.group is None:
            self.group = torch.distributed.new_group(backend="gloo")
        last, negative_first = self.largest(trainer.global_step, -trainer.global_step)
        if last != -negative_first:
            text = f"the ranks resumed from different steps, {-negative_first} to {last}: start all of them again"
            raise RunError("parallel.different_checkpoints", text)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done >= trainer.num_training_batches or done % trainer.accumulate_grad_batches:
            return  # the end of an epoch is saved by its own hook; half accumulated gradients can't be resumed
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
        # Several ranks evaluate different numbers of batches and can agree only when all are done.
        if self.listener.received and (trainer.world_size == 1 or trainer.state.fn == "test"):
            if trainer.state.fn == "fit":
                self.save(trainer, "validation")
            raise Stopped(self.listener.received)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.listener.start()

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the weights as they were validated, if they are the best."""
        if trainer.state.fn != "fit":
            return
        self.confirm_best(trainer)
        score = float(trainer.callback_metrics["val/score"])
        if score > self.best or self.best == -math.inf:
            self.previous_best, self.best = self.best, score if math.isfinite(score) else self.best
            options = {"background": self.background}
            trainer.save_checkpoint(self.folder / BEST, weights_only=True, storage_options=options)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        final = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        elapsed = self.clock.now() - self.saved_at
        self.save_if_due(trainer, "epoch", final or elapsed * MAX_SAVE_FRACTION >= self.save_seconds)

    def save_if_due(self, trainer: Trainer, moment: Moment, due: bool = False) -> None:
        """Saves if it is due in any rank, then stops if any rank received a signal."""
        due = due or self.clock.now() - self.saved_at > self.every
        signum, due_anywhere = self.largest(self.listener.received, due)
        if signum or due_anywhere:
            self.save(trainer, moment, background=not signum)
        if signum:
            raise Stopped(signum)

    def largest(self, *values: int) -> list[int]:
        """Returns the largest of every value over all ranks."""
        if self.group is None:
            return list(values)
        return [int(value) for value in reduce_over_ranks(values, "max", self.group)]

    def save(self, trainer: Trainer, moment: Moment, background: bool = False) -> None:
        self.moment, started = moment, self.clock.now()
        if self.confirm_best(trainer):
            options = {"background": background and self.background}
            trainer.save_checkpoint(self.folder / LAST, weights_only=False, storage_options=options)
        else:
            self.io.skip(self.folder / LAST, f"{BEST} could not be written")
        self.saved_at = self.clock.now()
        self.save_seconds = self.saved_at - started
        self.check_failed(trainer)

    def confirm_best(self, trainer: Trainer) -> bool:
        """Whether the last ``best.ckpt`` was written; if not, `best` is the score of the one before."""
        if self.previous_best is None:
            return True
        (failed,) = self.largest(trainer.is_global_zero and self.io.has_failed(BEST))
        if failed:
            self.best = self.previous_best
        self.previous_best = None
        return not failed

    def check_failed(self, trainer: Trainer) -> None:
        """Stops all ranks where a checkpoint could not be written and ``on_failure=stop``."""
        if self.stop_on_failure and self.largest(bool(self.io.failed))[0]:
            causes = ", ".join(f"{name}: {cause}" for name, cause in self.io.failed.items())
            hint = f"callbacks.checkpoint.on_failure=stop: free some space, then {resume_hint(self.folder.parent)}"
            raise RunError("checkpoint.not_written", f"a checkpoint could not be written ({causes}) and {hint}")

    def is_saved(self, trainer: Trainer) -> bool:
        """Whether the end of the training is on disk, in ``last.ckpt`` and with its best weights in ``best.ckpt``."""
        self.io.wait()
        self.check_failed(trainer)
        return not self.largest(self.io.has_failed(LAST))[0]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the run's position in terms of the data."""
        epoch_ended = self.moment == "epoch"
        epoch, batch = trainer.current_epoch + epoch_ended, 0 if epoch_ended else lightning_state.next_batch(checkpoint)
        task_of(pl_module).run_state.move_to(epoch, batch)
        checkpoint["position"] = {
            "epoch": epoch,
            "batch": batch,
            "batches": int(trainer.num_training_batches),
            "processes": trainer.world_size,
            "stopped": bool(trainer.should_stop),
            "precision": str(trainer.precision),
        }
        checkpoint["items"], checkpoint["excluded_names"] = self.fingerprints, excluded_names(data_of(trainer))
        if self.moment == "validation":
            lightning_state.restart_validation(checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.should_stop = checkpoint["position"]["stopped"]  # early stopping would not set it again

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.previous_best = state_dict["best"], None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.listener.stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.listener.stop()
