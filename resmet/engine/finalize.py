"""The end of a run whose disk was full: what could not be written is tried again, and what is not on disk is not claimed."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer

from foundation.structures import RunError
from resmet.checkpoints.checkpoint_io import WholeFiles
from resmet.checkpoints.layout import BEST, LAST, resume_hint
from resmet.engine.fsdp_strategy import Sharded


def hand_out_best(trainer: Trainer, folder: Path) -> None:
    """Try again what could not be written; best weights that no disk takes go to all processes, which test with them.

    Raises:
        RunError: If the weights are shared out over the processes, and so come from a file or not at all.
    """
    writer = trainer.strategy.checkpoint_io
    if not isinstance(writer, WholeFiles):
        return
    if trainer.is_global_zero:
        writer.retry()
    best = trainer.strategy.broadcast(writer.held.get(BEST))
    if not best:
        return
    writer.held[BEST] = best
    if isinstance(trainer.strategy, Sharded):
        refuse_unsaved(trainer, folder, "not tested")


def refuse_unsaved(trainer: Trainer, folder: Path, said: str) -> None:
    """End a run whose best weights, or whose end, no disk took: ``metrics.json`` stands for a run that is whole on disk.

    Raises:
        RunError: Saying what is missing, what came of the run, and what to do.
    """
    writer = trainer.strategy.checkpoint_io
    if trainer.is_global_zero and isinstance(writer, WholeFiles):
        writer.retry()  # room may have come
        if writer.held:
            raise RunError(
                f"the training is over ({said}), but its {unwritten(writer)} could not be written, so there is no metrics.json and no report. "
                f"Make room, or let the folder be written to, then {resume_hint(folder)}"
            )


def unwritten(writer: WholeFiles) -> str:
    """The files that are still to be written, in words."""
    return " and ".join(sorted(writer.held, key=(BEST, LAST).index))
