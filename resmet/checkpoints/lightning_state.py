"""What this project needs of Lightning beyond its public interface for bit-exact resume.

The only file that writes into Lightning's objects or knows the names inside its checkpoints. When Lightning's version changes, check
every function here and run the tests of tests/resmet/checkpoints, then set `CHECKED_VERSION`.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

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
