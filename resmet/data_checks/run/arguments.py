"""Turns the doctor's arguments into Hydra's overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foundation.overrides import format_value


def to_overrides(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with the first folder as ``root=`` and, if a format is chosen, as ``data.root=``.

    Keys of the reader without ``data=FORMAT`` can't be composed: then the format is recognized here, which imports the readers.
    """
    folder = next(
        (word for word in arguments if not word.startswith("-") and ("=" not in word or Path(word).is_dir())), ""
    )
    if not folder:
        return list(arguments)
    root = format_value(folder)
    overrides = [f"root={root}" if word == folder else word for word in arguments]
    if any(word.startswith("data=") for word in arguments):
        return [*overrides, f"data.root={root}"]
    format = recognized(Path(folder)) if any(word.startswith("data.") for word in arguments) else ""
    return [*overrides, f"data={format}", f"data.root={root}"] if format else overrides


def recognized(root: Path) -> str:
    """Returns the most likely format of a folder, "" if there is none."""
    from resmet.data_checks.scan.files import read_tree
    from resmet.data_checks.scan.formats import recognize

    root = root.expanduser()
    guesses = recognize(root, read_tree(root)) if root.is_dir() else []
    return guesses[0].format if guesses else ""
