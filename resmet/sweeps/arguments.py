"""Whether a command line asks for a sweep: every training imports this, and nothing else of sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resmet.cli.options import CONFIG_DIR, MULTIRUN


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for a sweep; ``-m --help`` and its like are Hydra's."""
    options = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    if options - {*MULTIRUN, *CONFIG_DIR}:
        return False
    return bool(options & set(MULTIRUN)) or any(map(is_of_sweep, arguments)) or bool(resumed_sweeps(arguments))


def is_of_sweep(override: str) -> bool:
    """Whether an override is of the sweep itself, rather than of its trials: ``sweep=``, ``sweep.jobs=``, ``sweep/launcher=``."""
    return override.split("=")[0].split(".")[0].split("/")[0] == "sweep"


def resumed_sweeps(arguments: Sequence[str]) -> list[Path]:
    """Returns the folders of sweeps that ``resume=`` names."""
    named = [Path(argument[7:].strip("'\"")) for argument in arguments if argument.startswith("resume=")]
    return [folder for folder in named if (folder / "sweep.yaml").is_file()]
