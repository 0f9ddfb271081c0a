"""A folder for a new run: the one that ``run_dir`` names, or a time-stamped one; never one that holds another run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from foundation.parallel import rendezvous
from foundation.parallel.rank_zero import is_rank_zero
from foundation.storage.atomic import PART
from foundation.storage.locks import LOCK
from foundation.structures import InputError
from resmet.cli.hydra_state import multirun_dir, multirun_number

TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"
OUTPUTS = Path("outputs")


def new_run_dir(run_dir: str | None, kind: str) -> Path:
    """Returns `free_dir`, the same in all processes of a run."""
    return Path(rendezvous.shared("folder", lambda: str(free_dir(run_dir, kind))))


def free_dir(run_dir: str | None, kind: str) -> Path:
    """Returns a folder that holds no run yet. It is not created.

    Args:
        run_dir: The folder that was named; in a Hydra multirun each run has one below it.
        kind: Where a time-stamped folder belongs below ``outputs`` if none was named: a task, ``evaluate``, ``predict``.

    Raises:
        InputError: If the named folder is a file, or not empty.
    """
    if run_dir:
        folder = named_dir(run_dir)
    else:
        multirun = multirun_dir()
        folder = Path(multirun) if multirun else default_dir(kind)
    present = entries(folder)
    if not is_rank_zero():  # rank 0 may have opened the folder by now
        present = [name for name in present if name != "config.yaml" and not name.endswith((".log", PART))]
    if present:
        resume = "" if kind in ("evaluate", "predict") else f", or resume that run with resume={folder}"
        listed = ", ".join(present[:4])
        raise InputError("run_dir.not_empty", f"run_dir={folder} already holds {listed}: name another folder{resume}")
    return folder


def named_dir(run_dir: str) -> Path:
    """Returns the folder that ``run_dir=`` names; one below it for each run of a Hydra multirun."""
    return Path(run_dir) / multirun_number() if multirun_dir() else Path(run_dir)


def entries(folder: Path) -> list[str]:
    """Returns the names of what a folder holds besides its lock; an absent folder holds nothing.

    Raises:
        InputError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("run_dir.is_a_file", f"run_dir={folder} is a file: name a folder")
    return sorted(child.name for child in folder.iterdir() if child.name != LOCK) if folder.is_dir() else []


def default_dir(kind: str) -> Path:
    """Returns the folder of a run that names none, the same in all of its ranks."""
    run_id = rendezvous.run_id()
    return OUTPUTS / kind / run_id if run_id else unused(OUTPUTS / kind / datetime.now().strftime(TIME_FORMAT))


def unused(folder: Path) -> Path:
    """Returns `folder`, or the first of ``folder-2``, ``folder-3`` ... that does not exist: two runs may start within a second."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
