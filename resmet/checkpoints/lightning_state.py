"""What this project needs of Lightning beyond its public interface for bit-exact resume.

The only file that writes into Lightning's objects or knows the names inside its checkpoints. When Lightning's version changes, check
every function here and run the tests of tests/resmet/checkpoints, then set `CHECKED_VERSION`.
"""

from __future__ import annotations

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from tasks.base import Task

CHECKED_VERSION = "2.6.6"


def next_batch(checkpoint: dict[str, Any]) -> int:
    """Returns the index of the batch that follows in the checkpoint's training epoch."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"])


def restart_validation(checkpoint: dict[str, Any]) -> None:
    """Sets the validation loop's position to its first item, so that a run resumed in a validation repeats all of it.

    Lightning would resume behind the items that were validated, whose metrics are not in the checkpoint.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    progress["current"] = dict.fromkeys(progress["current"], 0)
    progress["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


def kill_ranks(trainer: Trainer, signum: int) -> None:
    """Sends a signal to the processes that Lightning started from this one."""
    launcher: Any = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(signum)


def task_of(pl_module: LightningModule) -> Task:
    """Returns the module of a hook as what it is here."""
    return cast(Task, pl_module)


def data_of(trainer: Trainer) -> DataModule:
    """Returns the data module of a Trainer, an attribute that Lightning does not declare."""
    return cast(DataModule, cast(Any, trainer).datamodule)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Returns the callbacks of a Trainer, an attribute that Lightning does not declare."""
    return cast(Any, trainer).callbacks
