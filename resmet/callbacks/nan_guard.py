"""What watches over every step: a loss or gradient that is no number is caught before it reaches the weights."""

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
from resmet.checkpoints.checkpoint_io import WholeFiles
from resmet.checkpoints.layout import candidates

SPAN = 16
"""Steps after which figures on a card are looked at together: reading one makes the processor wait for the card."""

log = logging.getLogger("resmet")


class Rollback(Exception):
    """The run is to go back to its last checkpoint and on at a lower rate.

    Args:
        said: What went wrong.
        slower: Factor of the rate.
    """

    def __init__(self, said: str, lr_factor: float) -> None:
        super().__init__(said)
        self.lr_factor = lr_factor


class Guard(Callback):
    """Look at the gradient's length before every step of the optimizer.

    The items of a batch that broke are written to ``bad_batches/`` of the run folder: their names as JSON, the batch itself as
    ``.pt``, to be read with ``torch.load``. Under ``stop`` a card is asked once in 16 steps, and before every checkpoint, and the
    batch is known by its names alone; otherwise before every step.

    Args:
        nonfinite: What a loss or gradient that is no number does: ``stop`` ends the run, ``skip`` leaves the step out,
            ``rollback`` goes back to the last checkpoint and on from there at a lower rate.
        limit: How often a run may skip or go back.
        slower: Factor of the learning rate each time that a run goes back, above 0 and below 1.

    Raises:
        InputError: If `limit` is below 1 or `slower` is not between 0 and 1.
    """

    def __init__(
        self, nonfinite: Literal["stop", "skip", "rollback"] = "stop", limit: int = 10, lr_factor: float = 0.5
    ) -> None:
        if limit < 1:
            raise InputError(f"callbacks.guard.limit must be at least 1, got {limit}")
        if not 0 < lr_factor < 1:
            raise InputError(f"callbacks.guard.slower is a factor between 0 and 1, got {lr_factor}")
        self.nonfinite, self.limit, self.lr_factor = nonfinite, limit, lr_factor
        self.count = 0
        self.batches: list[Any] = []
        self.steps: list[tuple[int, Tensor, list[Any]]] = []
        self.buffers: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer = trainer
        self.batches, self.steps = [], []
        pl_module.sound = self.sound  # type: ignore[assignment]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        if self.nonfinite == "skip" and len(self.batches) == 1:
            self.buffers = {name: value.clone() for name, value in pl_module.named_buffers()}

    def sound(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether a step may be taken with this loss and this length of the gradient.

        Raises:
            RunError: If not, and that ends the run.
            Rollback: If not, and the run is to go back.
        """
        # A scaled loss may overflow: the scaler sees to it.
        figure = loss if self.trainer.precision == "16-mixed" else loss + norm
        waits = figure.is_cuda and self.nonfinite == "stop"
        # Batches that wait for a look would fill a card: their names have to do.
        held = [{"names": names_of(batch)} for batch in self.batches] if waits else self.batches
        self.steps.append((self.trainer.global_step, figure, held))
        self.batches = []
        return True if waits and len(self.steps) < SPAN else self.look()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.look()

    def look(self) -> bool:
        """Judge the steps since the last look; what was wrong is said, written down and acted upon."""
        steps, self.steps = self.steps, []
        finite = torch.stack([figure for _, figure, _ in steps]).isfinite().tolist() if steps else []
        if all(finite):
            return True
        step, figure, batches = steps[finite.index(False)]
        self.count += 1
        self.act(self.describe(step, figure, batches))
        return False

    def describe(self, step: int, figure: Tensor, batches: list[Any]) -> str:
        names = [name for batch in batches for name in names_of(batch)]
        folder = Path(self.trainer.default_root_dir) / "bad_batches"
        stem = f"step-{step}" + (f"-process-{self.trainer.global_rank}" if self.trainer.world_size > 1 else "")
        saved = keep_batch(folder / stem, names, self.trainer.current_epoch + 1, step, batches)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return (
            f"the loss or its gradient is no number (epoch {self.trainer.current_epoch + 1}, step {step}). "
            f"The batch was {shown}{f'; it is kept in {saved}' if saved else ''}"
        )

    def act(self, said: str) -> None:
        more = "lower recipe.optimizer.lr, set recipe.clip=1, or say trainer.precision=32-true"
        if self.nonfinite == "stop":
            raise RunError(
                f"{said}. {self.safe()}; {more}; callbacks.guard.nonfinite=skip or rollback goes on by itself"
            )
        if self.count > self.limit:
            raise RunError(f"{said}. That was once more than callbacks.guard.limit={self.limit}. {self.safe()}: {more}")
        if self.nonfinite == "rollback":
            raise Rollback(said, self.lr_factor)
        log.warning(f"{said}. The step is left out ({self.count} of at most {self.limit})")
        self.restore()

    def safe(self) -> str:
        """What there is to go on from, once nothing is being written any more."""
        writer = self.trainer.strategy.checkpoint_io
        if isinstance(writer, WholeFiles):
            writer.wait()
        there = candidates(Path(self.trainer.default_root_dir) / "checkpoints")
        return "The last checkpoint is from before" if there else "There is no checkpoint yet"

    def restore(self) -> None:
        """Batch statistics as they were before the step: the pass forward may have spoilt them."""
        for name, value in self.trainer.lightning_module.named_buffers():
            if name in self.buffers and value.is_floating_point() and not value.isfinite().all():
                value.copy_(self.buffers[name])

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = max(self.count, state_dict["count"])  # one that goes back does not forget


def names_of(batch: Any) -> list[str]:
    """The items of a batch; of all parts where it is joint."""
    if "names" in batch:
        return list(batch["names"])
    return [name for part in batch.values() if part for name in names_of(part)]


def keep_batch(stem: Path, names: list[str], epoch: int, step: int, batches: list[Any]) -> Path | None:
    """Write the names and the batches; None where the disk does not take them."""
    try:
        stem.parent.mkdir(exist_ok=True)
        torch.save([dict(batch) for batch in batches], stem.with_suffix(".pt"))
    except (OSError, RuntimeError):
        return None
    path = stem.with_suffix(".json")
    write_text_or_warn(path, json.dumps({"epoch": epoch, "step": step, "items": names}, indent=2) + "\n")
    return path
