"""The folder of a sweep: which one it is, and whether it holds this sweep or another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.storage.locks import LOCK
from foundation.storage.safe_load import read_yaml
from foundation.structures import InputError
from resmet.cli.run_dir import OUTPUTS, folder_contents, time_stamped
from resmet.cli.saved_config import AUTO
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space
from resmet.sweeps.study import JOURNAL

SweepConfig = dict[str, Any]
"""``sweep.yaml``: what the command line asked for."""

LISTS = ("words", "flags", "chosen")
"""Keys of ``sweep.yaml`` that hold arguments of a command: overrides of the trials, options, and overrides of the sweep."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: overrides of the trials, overrides of the sweep, options for every trial, and where."""

    space: Space
    sweep: list[str]
    options: list[str]
    run_dir: str | None
    resume: str | None


def describe(request: Request, search: Search, program: list[str]) -> SweepConfig:
    """Returns the content of ``sweep.yaml``. Everything but ``chosen`` makes it this sweep rather than another."""
    return {
        "script": Path(program[1]).name,
        "search": type(search).__name__.lower(),
        **search.settings,
        "flags": request.options,
        "words": list(request.space.overrides.values()),
        "chosen": request.sweep,
    }


def read_sweep_config(folder: Path) -> SweepConfig:
    """Reads ``sweep.yaml``.

    Raises:
        InputError: If it holds anything but lists of texts where arguments are expected.
    """
    config: SweepConfig = read_yaml(folder / "sweep.yaml")
    lists = [config.get(key) for key in LISTS] if isinstance(config, dict) else [None]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise InputError("sweep.unreadable", f"{folder}/sweep.yaml can't be read: use another run_dir")
    return config


def refuse_programs(config: SweepConfig, folder: Path) -> None:
    """Refuses to take arguments from a folder that could start a program, or look up something on this machine.

    Raises:
        InputError: Naming the argument, and how such a sweep is resumed.
    """
    for argument in [argument for key in LISTS for argument in config[key]]:
        if re.match(r"[+~]*hydra\b", argument) or re.search(r"_target_|\bsetup\b|\$\{", argument):
            raise InputError(
                "sweep.program_in_folder",
                f"{folder}/sweep.yaml has {argument}, which could run a program: if you want that, repeat all its arguments, "
                f"-m ... {argument} resume={folder}",
            )


def find_sweep_dir(request: Request, config: SweepConfig) -> Path:
    """Returns the sweep's folder: a free one, or that of this sweep if it is resumed.

    Raises:
        InputError: If the folder holds something else, or what is to be resumed is no sweep.
    """
    folder = choose_dir(request, config)
    present = folder_contents(folder)
    if not set(present) - {"logs"}:
        return folder
    if "sweep.yaml" not in present:
        text = f"run_dir={folder} already holds {', '.join(present[:4])}: name another folder"
        raise InputError("run_dir.not_empty", text)
    old = read_sweep_config(folder)
    if (
        keys := differing_settings(old, config)
    ) or JOURNAL not in present:  # the first release had no journal for a grid
        changes = "; ".join(f"{key} was {show(old.get(key))}, is {show(config[key])}" for key in keys)
        text = f"run_dir={folder} holds another sweep: {changes or 'of an earlier version'}. Name another folder"
        raise InputError("sweep.other_sweep", text)
    if not request.resume:
        text = f"run_dir={folder} already holds this sweep: resume it with resume={folder}, or resume=auto"
        raise InputError("sweep.exists", text)
    return folder


def choose_dir(request: Request, config: SweepConfig) -> Path:
    """Returns the folder that was asked for, for ``resume=auto`` the newest of this sweep; else a new time-stamped one."""
    if request.resume and request.resume != AUTO:
        folder = Path(request.resume)
        if not (folder / "sweep.yaml").is_file():
            raise InputError("sweep.not_a_sweep", f"resume={folder} is no folder of a sweep: it has no sweep.yaml")
        return folder
    if request.run_dir:
        return Path(request.run_dir)
    sweeps = sorted((OUTPUTS / "sweeps").glob("*/sweep.yaml"), reverse=True) if request.resume else []
    return next((path.parent for path in sweeps if same_sweep(path.parent, config)), None) or time_stamped("sweeps")


def same_sweep(folder: Path, config: SweepConfig) -> bool:
    """Whether `folder` holds this sweep; False if its ``sweep.yaml`` can't be read."""
    try:
        return not differing_settings(read_sweep_config(folder), config)
    except InputError:
        return False


def differing_settings(old: SweepConfig, config: SweepConfig) -> list[str]:
    return [key for key in config if key != "chosen" and old.get(key) != config[key]]


def show(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Creates and locks a sweep's folder; yields the file descriptor that keeps the lock as long as a trial has it open.

    Raises:
        InputError: If the folder can't be written, or a sweep or a trial that it left behind holds the lock.
    """
    import fcntl  # not on Windows, where train.py without a sweep works

    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a+")
    except OSError as error:
        text = f"run_dir={folder} can't be written ({error.strerror}): name another folder"
        raise InputError("run_dir.not_writable", text) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = f"run_dir={folder} is in use by this sweep, or by trials that it left behind: wait until they end"
            raise InputError("run_dir.locked", text) from error
        yield lock.fileno()
