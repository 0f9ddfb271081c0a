"""The folder of a sweep: which one it is, and whether what it holds is this sweep or another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from foundation.storage.safe_load import read_yaml
from foundation.structures import InputError
from resmet.cli.free_dir import unused
from resmet.cli.saved_config import AUTO
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space
from resmet.sweeps.trial import read_trials

Said = dict[str, Any]
"""``sweep.yaml``: what was asked for."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: words of the trials, words of the sweep, and where."""

    space: Space
    sweep: list[str]
    flags: list[str]  # --config-dir and its folder, for every trial
    run_dir: str | None
    resume: str | None


def describe(request: Request, search: Search, program: list[str]) -> Said:
    """``sweep.yaml``: the words, and apart from them what makes it this sweep rather than another."""
    kind = type(search).__name__.lower()
    same = {
        "script": Path(program[1]).name,
        "search": kind,
        **search.settings(),
        "flags": request.flags,
        "words": list(request.space.words.values()),
    }
    return {**same, "chosen": request.sweep}


def read_said(folder: Path) -> Said:
    said: Said = read_yaml(folder / "sweep.yaml")
    lists = [said.get(key) for key in ("words", "flags", "chosen")] if isinstance(said, dict) else [None]
    if not all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in lists):
        raise InputError(f"{folder}/sweep.yaml can't be read: sweep into another run_dir")
    return said


def refuse_programs(said: Said, folder: Path) -> None:
    """Refuse to take words from a folder that could start a program, or look up what is on this machine.

    Raises:
        InputError: Naming the word, and how a sweep that has it is gone on with.
    """
    for word in [*said["words"], *said["flags"], *said["chosen"]]:
        if re.match(r"[+~]*hydra\b", word) or re.search(r"_target_|\bsetup\b|\$\{", word):
            raise InputError(
                f"{folder}/sweep.yaml says {word}, which could run a program: where that is wanted, say all its words again, "
                f"-m ... {word} resume={folder}"
            )


def find_folder(request: Request, said: Said, search: Search) -> tuple[Path, bool]:
    """The sweep's folder, and whether it holds this very sweep already.

    Raises:
        InputError: If the folder holds something else, or what is to be resumed is no sweep.
    """
    fresh = unused(Path("outputs") / "sweeps" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    if request.resume == AUTO:
        folder = Path(request.run_dir) if request.run_dir else latest(said, search.total(request.space)) or fresh
    elif request.resume:
        folder = Path(request.resume)
        if not (folder / "sweep.yaml").is_file():
            raise InputError(f"resume={folder} is no folder of a sweep: it has no sweep.yaml")
    else:
        folder = Path(request.run_dir) if request.run_dir else fresh
    if folder.exists() and not folder.is_dir():
        raise InputError(f"run_dir={folder} is a file: name a folder")
    held = sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []
    if not set(held) - {".lock", "logs"}:
        return folder, False
    if "sweep.yaml" not in held:
        raise InputError(f"run_dir={folder} already holds {', '.join(held[:4])}: name another folder")
    old = read_said(folder)
    differ = [key for key in said if key != "chosen" and old.get(key) != said[key]]
    if differ:
        told = "; ".join(f"{key} was {show(old.get(key))}, is {show(said[key])}" for key in differ)
        raise InputError(f"run_dir={folder} holds another sweep: {told}. Name another folder")
    if not request.resume:
        raise InputError(f"run_dir={folder} already holds this sweep: go on with it by resume={folder}, or resume=auto")
    return folder, True


def show(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def latest(said: Said, total: int) -> Path | None:
    """The newest unfinished sweep below ``outputs/sweeps`` that was started with the same words."""
    for path in sorted(Path("outputs/sweeps").glob("*/sweep.yaml"), reverse=True):
        old = read_said(path.parent)
        if all(old.get(key) == value for key, value in said.items() if key != "chosen"):
            trials = read_trials(path.parent)
            return path.parent if sum(trial.ended for trial in trials) < total else None
    return None
