"""Catches a NaN or Inf in the loss or the gradient before it reaches the weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from foundation.storage.atomic import write_json
from foundation.structures import RunError, first_line, require_range
from resmet.checkpoints.layout import resume_hint
from resmet.checkpoints.lightning_state import task_of

CHECK_EVERY = 16
"""Interval in steps at which values on a GPU are checked under ``stop``: reading one synchronizes with the GPU."""

log = logging.getLogger("resmet")


class Rollback(Exception):
    """The run returns to its last checkpoint and resumes, at the learning rate that its state has by now."""


class NanGuard(Callback):
    """Checks loss and gradient norm before every optimizer step.

    A bad batch is written to ``bad_batches/`` of the run folder: the names of its items as JSON, the batch itself as ``.pt``, to be
    read with ``torch.load``. Under ``stop``, a GPU is read once in `CHECK_EVERY` steps and before every checkpoint, and of the batch
    only the names are known.

    Args:
        nonfinite: What a NaN or Inf in the loss or the gradient does: ``stop`` ends the run, ``skip`` skips the step, ``rollback``
            resumes from the last checkpoint at a lower learning rate.
        limit: How often a run may skip or roll back, at least 1.
        lr_factor: Factor of the learning rate at each rollback, between 0 and 1.
    """

    def __init__(
        self, nonfinite: Literal["stop", "skip", "rollback"] = "stop", limit: int = 10, lr_factor: float = 0.5
    ) -> None:
        require_range("callbacks.nan_guard.limit", limit, 1)
        require_range("callbacks.nan_guard.lr_factor", lr_factor, 0, 1, above=True, below=True)
        self.nonfinite, self.limit, self.lr_factor = nonfinite, limit, lr_factor
        self.count = 0
        self.batches: list[Any] = []
        self.unchecked: list[tuple[int, Tensor, list[Any]]] = []
        self.buffers: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer, self.batches, self.unchecked = trainer, [], []
        task_of(pl_module).run_state.check_finite_with(self.is_finite)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        if self.nonfinite == "skip" and len(self.batches) == 1:
            self.buffers = {name: value.clone() for name, value in pl_module.named_buffers()}

    def is_finite(self, loss: Tensor, grad_norm: Tensor) -> bool:
        """Returns whether a step may be taken with this loss and gradient norm; raises `RunError` or `Rollback` if the run can't continue."""
        # A scaled loss may overflow, which the gradient scaler handles.
        value = loss if self.trainer.precision == "16-mixed" else loss + grad_norm
        defer = value.is_cuda and self.nonfinite == "stop"
        # Unchecked batches would fill the GPU; their names do not.
        batches = [{"names": names_of(batch)} for batch in self.batches] if defer else self.batches
        self.unchecked.append((self.trainer.global_step, value, batches))
        self.batches = []
        return True if defer and len(self.unchecked) < CHECK_EVERY else self.check()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check()

    def check(self) -> bool:
        """Returns whether all unchecked steps were finite; otherwise saves and handles the first that was not."""
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
        epoch, folder = self.trainer.current_epoch + 1, Path(self.trainer.default_root_dir) / "bad_batches"
        path = folder / f"step-{step}{f'-rank-{rank}' if (rank := self.trainer.global_rank) else ''}.json"
        try:
            folder.mkdir(exist_ok=True)
            write_json(path, {"epoch": epoch, "step": step, "items": names})
            torch.save([dict(batch) for batch in batches], path.with_suffix(".pt"))
        except (OSError, RuntimeError) as error:  # a full disk
            log.warning(f"{path} could not be written ({first_line(error)})")
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return (
            f"non-finite loss or gradient (NaN or Inf) in epoch {epoch}, step {step}. The batch was {shown}, see {path}"
        )

    def handle(self, message: str) -> None:
        hint = resume_hint(Path(self.trainer.default_root_dir))
        advice = f"lower recipe.optimizer.lr, or set recipe.gradient_clip_norm=1 or trainer.precision=32-true; {hint}"
        if self.nonfinite == "stop":
            options = "callbacks.nan_guard.nonfinite=skip or rollback continues by itself"
            raise RunError("run.nonfinite", f"{message}: {advice}; {options}")
        if self.count > self.limit:
            limit = f"That exceeds callbacks.nan_guard.limit={self.limit}"
            raise RunError("run.nonfinite_limit", f"{message}. {limit}: {advice}")
        if self.nonfinite == "rollback":
            task_of(self.trainer.lightning_module).run_state.reduce_lr(self.lr_factor)
            raise Rollback(message)
        log.warning(f"{message}. The step is skipped ({self.count} of at most {self.limit})")
        # The forward pass may have made batch statistics non-finite.
        for name, value in self.trainer.lightning_module.named_buffers():
            if value.is_floating_point() and not value.isfinite().all():
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
