"""Catches a NaN or Inf in the loss or the gradient before it reaches the weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from foundation.storage.atomic import write_text_or_warn
from foundation.structures import InputError, RunError
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO
from resmet.checkpoints.layout import candidates

CHECK_EVERY = 16
"""Steps after which a GPU is read under ``stop``: reading a number makes the CPU wait for the GPU."""

log = logging.getLogger("resmet")


class Rollback(Exception):
    """The run returns to its last checkpoint and resumes at a lower learning rate.

    Args:
        message: What went wrong.
        lr_factor: Factor of the learning rate.
    """

    def __init__(self, message: str, lr_factor: float) -> None:
        super().__init__(message)
        self.lr_factor = lr_factor


class NanGuard(Callback):
    """Checks loss and gradient norm before every optimizer step.

    The items of a bad batch are written to ``bad_batches/`` of the run folder: their names as JSON, the batch itself as ``.pt``, to be
    read with ``torch.load``. Under ``stop``, a GPU is read once in `CHECK_EVERY` steps and before every checkpoint, and of the batch
    only the names are known; otherwise before every step.

    Args:
        nonfinite: What a NaN or Inf in the loss or the gradient does: ``stop`` ends the run, ``skip`` skips the step, ``rollback``
            resumes from the last checkpoint at a lower learning rate.
        limit: How often a run may skip or roll back.
        lr_factor: Factor of the learning rate at each rollback, between 0 and 1.

    Raises:
        InputError: If `limit` is below 1 or `lr_factor` is not between 0 and 1.
    """

    def __init__(
        self, nonfinite: Literal["stop", "skip", "rollback"] = "stop", limit: int = 10, lr_factor: float = 0.5
    ) -> None:
        if limit < 1:
            raise InputError("config.out_of_range", f"callbacks.nan_guard.limit must be at least 1, got {limit}")
        if not 0 < lr_factor < 1:
            raise InputError(
                "config.out_of_range", f"callbacks.nan_guard.lr_factor must be between 0 and 1, got {lr_factor}"
            )
        self.nonfinite, self.limit, self.lr_factor = nonfinite, limit, lr_factor
        self.count = 0
        self.batches: list[Any] = []
        self.unchecked: list[tuple[int, Tensor, list[Any]]] = []
        self.buffers: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        task: Any = pl_module
        self.trainer, self.batches, self.unchecked = trainer, [], []
        task.run_state.check_finite_with(self.is_finite)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        if self.nonfinite == "skip" and len(self.batches) == 1:
            self.buffers = {name: value.clone() for name, value in pl_module.named_buffers()}

    def is_finite(self, loss: Tensor, grad_norm: Tensor) -> bool:
        """Returns whether a step may be taken with this loss and gradient norm.

        Raises:
            RunError: If not, and the run ends.
            Rollback: If not, and the run resumes from its last checkpoint.
        """
        # A scaled loss may overflow, which the gradient scaler handles.
        value = loss if self.trainer.precision == "16-mixed" else loss + grad_norm
        defer = value.is_cuda and self.nonfinite == "stop"
        # Holding on to unchecked batches would fill the GPU: their names have to do.
        batches = [{"names": names_of(batch)} for batch in self.batches] if defer else self.batches
        self.unchecked.append((self.trainer.global_step, value, batches))
        self.batches = []
        return True if defer and len(self.unchecked) < CHECK_EVERY else self.check()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check()

    def check(self) -> bool:
        """Returns whether all unchecked steps were finite; otherwise logs, saves and handles the first that was not."""
        steps, self.unchecked = self.unchecked, []
        finite = torch.stack([value for _, value, _ in steps]).isfinite().tolist() if steps else []
        if all(finite):
            return True
        step, _, batches = steps[finite.index(False)]
        self.count += 1
        self.handle(self.describe(step, batches))
        return False

    def describe(self, step: int, batches: list[Any]) -> str:
        """Writes the batch to ``bad_batches/`` and returns the message."""
        names = [name for batch in batches for name in names_of(batch)]
        epoch = self.trainer.current_epoch + 1
        rank = f"-rank-{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        path = Path(self.trainer.default_root_dir) / "bad_batches" / f"step-{step}{rank}"
        saved = save_batch(path, {"epoch": epoch, "step": step, "items": names}, batches)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return (
            f"non-finite loss or gradient (NaN or Inf) in epoch {epoch}, step {step}. The batch was {shown}"
            f"{f', saved to {saved}' if saved else ''}"
        )

    def handle(self, message: str) -> None:
        advice = "lower recipe.optimizer.lr, or set recipe.gradient_clip_norm=1 or trainer.precision=32-true"
        if self.nonfinite == "stop":
            raise RunError(
                "run.nonfinite",
                f"{message}. {self.last_checkpoint()}: {advice}; callbacks.nan_guard.nonfinite=skip or rollback continues by itself",
            )
        if self.count > self.limit:
            raise RunError(
                "run.nonfinite_limit",
                f"{message}. That exceeds callbacks.nan_guard.limit={self.limit}. {self.last_checkpoint()}: {advice}",
            )
        if self.nonfinite == "rollback":
            raise Rollback(message, self.lr_factor)
        log.warning(f"{message}. The step is skipped ({self.count} of at most {self.limit})")
        self.restore_buffers()

    def last_checkpoint(self) -> str:
        """Returns what there is to resume from, once nothing is being written any more."""
        writer = self.trainer.strategy.checkpoint_io
        if isinstance(writer, AtomicCheckpointIO):
            writer.wait()
        exists = candidates(Path(self.trainer.default_root_dir) / "checkpoints")
        return "The last checkpoint was written before" if exists else "There is no checkpoint yet"

    def restore_buffers(self) -> None:
        """Restores batch statistics from before the step, which the forward pass may have made non-finite."""
        for name, value in self.trainer.lightning_module.named_buffers():
            if name in self.buffers and value.is_floating_point() and not value.isfinite().all():
                value.copy_(self.buffers[name])

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = max(self.count, state_dict["count"])  # a rollback must not reset the limit


def names_of(batch: Any) -> list[str]:
    """Returns the names of a batch's items; of all parts of a joint batch."""
    if "names" in batch:
        return list(batch["names"])
    return [name for part in batch.values() if part for name in names_of(part)]


def save_batch(stem: Path, content: dict[str, Any], batches: list[Any]) -> Path | None:
    """Writes a description as JSON and the batches as ``.pt``; returns None where the disk does not take them."""
    try:
        stem.parent.mkdir(exist_ok=True)
        torch.save([dict(batch) for batch in batches], stem.with_suffix(".pt"))
    except (OSError, RuntimeError):
        return None
    path = stem.with_suffix(".json")
    write_text_or_warn(path, json.dumps(content, indent=2) + "\n")
    return path
