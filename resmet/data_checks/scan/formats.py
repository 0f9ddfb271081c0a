"""Recognizes the format of a folder: every reader named in conf/data is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hydra.utils import get_class

from datamodules.base.files import FileDataModule
from datamodules.base.recognition import LAYOUT_ONLY, Tree
from foundation.storage.safe_load import read_yaml
from resmet.data_checks.model.guess import Guess
from resmet.data_checks.scan.video_clips import VideoClips

CONF = Path(__file__).parents[3] / "conf" / "data"


def detect(root: Path, tree: Tree) -> list[Guess]:
    """Returns all formats that `root` could be in, the most likely first; empty if it holds nothing known."""
    matches = [(format, match) for format, reader in readers() if (match := reader.recognize(root, tree))]
    specific = [pair for pair in matches if pair[1].score > LAYOUT_ONLY]
    ranked = sorted(specific or matches, key=lambda pair: -pair[1].score)
    return [Guess(format, match.reason, dict(match.settings), match.table) for format, match in ranked]


def readers() -> Iterator[tuple[str, type[FileDataModule] | type[VideoClips]]]:
    """Returns the choices of ``data=`` that read a folder, with their classes; videos have no choice yet."""
    for file in sorted(CONF.glob("[!_]*.yaml")):
        target = get_class(read_yaml(file)["_target_"])
        if issubclass(target, FileDataModule):
            yield file.stem, target
    yield "", VideoClips
