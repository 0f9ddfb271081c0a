"""Recognizes the format of a folder: every reader named in conf/data is asked."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import get_class

from datamodules.base.files import FileDataModule
from datamodules.base.recognition import LAYOUT_ONLY, FormatMatch, Tree
from foundation.storage.safe_load import read_yaml
from foundation.structures import InputError
from resmet.data_checks.model.context import Guess
from resmet.data_checks.scan.video_clips import VideoClips

CONF = Path(__file__).parents[3] / "conf" / "data"


def readers() -> dict[str, type[FileDataModule]]:
    """Returns {choice of ``data=``: class} of those that read a folder."""
    targets = {file.stem: read_yaml(file).get("_target_") for file in sorted(CONF.glob("[!_]*.yaml"))}
    classes = {format: get_class(target) for format, target in targets.items() if target}
    return {format: reader for format, reader in classes.items() if issubclass(reader, FileDataModule)}


def recognize(root: Path, tree: Tree) -> list[Guess]:
    """Returns the formats that `root` may be in, the most likely first; empty if it holds nothing known. Of several tables the largest counts."""
    known: list[tuple[str, type[FileDataModule] | type[VideoClips]]] = [*readers().items(), ("", VideoClips)]
    guesses = [Guess(format, reader, match) for format, reader in known if (match := reader.recognize(root, tree))]
    largest = max((table.num_files for guess in guesses if (table := guess.match.table)), default=0)
    guesses = [guess for guess in guesses if not (table := guess.match.table) or table.num_files == largest]
    specific = [guess for guess in guesses if guess.match.score > LAYOUT_ONLY]
    return sorted(specific or guesses, key=lambda guess: -guess.match.score)


def choose_format(format: str, guesses: list[Guess]) -> Guess:
    """Returns the guess for a format that was asked for, even if nothing speaks for it; the most likely one for "".

    Raises:
        InputError: If there is no reader of that format for a folder.
    """
    if not format:
        return guesses[0] if guesses else Guess()
    if format not in readers():
        message = f"data={format} doesn't read a folder; choose one of {', '.join(readers())}, or leave data out"
        raise InputError("data.unknown_format", message)
    asked = Guess(format, readers()[format], FormatMatch("it was asked for", 0.0))
    return next((guess for guess in guesses if guess.format == format), asked)
