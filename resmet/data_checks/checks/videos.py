"""Clips: counted, compared and drawn by their middle frames. There is no video task yet, so nothing here trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import av
import numpy as np
import torch
from av.error import FFmpegError

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import Sample
from datamodules.splits.splits import Item
from foundation.structures import InputError, Spec
from resmet.data_checks.checks.images import spread
from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count
from resmet.data_checks.run.result_cache import Facts
from resmet.data_checks.scan.csv_columns import SPLITS, Table, read_columns
from resmet.data_checks.scan.file_tree import Tree
from resmet.data_checks.scan.file_types import family
from resmet.data_checks.scan.formats import Guess

OF_FILES = {
    "protocol_whitelist": "file",
    "format_whitelist": "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,h264,hevc,flv,ogg",
}
"""Containers that hold what they show. A playlist called .mp4 would name other files, or addresses, to be opened."""


class Clips(DataModule):
    """The middle frames of the clips that a table names, or that lie in a folder a class.

    Args:
        root: The folder of the data.
        tree: Its files.
        guess: How it was recognised, with the table where there is one.
    """

    def __init__(self, root: Path, tree: Tree, guess: Guess) -> None:
        super().__init__(1, 0, False, 0, lambda signal, target, generator: (signal, target))
        self.root, self.tree, self.table = root, tree, guess.table

    def read(self) -> dict[str, list[Item]]:
        rows = self.rows(self.table) if self.table else self.by_folder()
        names = sorted({label for _, label, _, _ in rows})
        self.spec = Spec(2, 3, tuple(names))
        found: dict[str, list[Item]] = {}
        for path, label, split, group in rows:
            found.setdefault(split or "train", []).append(Item(str(self.root / path), names.index(label), group))
        return found

    def rows(self, table: Table) -> list[tuple[str, str, str, str]]:
        """Path, label, split and group of every line of the table."""
        columns = read_columns(self.root / table.path)
        empty = [""] * table.rows
        kinds = [columns.get(table.columns.get(role, ""), empty) for role in ("label", "split", "group")]
        return [row for row in zip(table.files, *kinds, strict=True) if row[0]]

    def by_folder(self) -> list[tuple[str, str, str, str]]:
        found = []
        for name in self.tree:
            inside = PurePosixPath(name).parts
            if family(name) == "video":
                split = inside[0] if inside[0].lower() in SPLITS else ""
                found.append((name, inside[-2] if len(inside) > 1 else "", split, ""))
        return found

    def load(self, item: Item) -> Sample:
        """The middle frame as uint8 (3, H, W), and the label."""
        try:
            with av.open(item.name, options=OF_FILES) as container:
                stream = container.streams.video[0]
                length = stream.duration or 0
                if length:
                    container.seek((stream.start_time or 0) + length // 2, stream=stream)
                frame = next(container.decode(stream)).to_ndarray(format="rgb24")
        except (FFmpegError, OSError, IndexError, StopIteration) as error:
            raise InputError(f"{item.name} can't be read as video ({error}): mend or remove it") from error
        return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1), item.target


def file_facts(path: Path) -> Facts:
    """Codec, frames, frames a second and size of the first video stream; empty where it can't be read."""
    try:
        with av.open(str(path), options=OF_FILES) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
            return {
                "codec": f"{context.name} {context.pix_fmt}",
                "frames": frames,
                "rate": round(float(stream.average_rate or 0), 2),
                "size": [context.width, context.height],
            }
    except (FFmpegError, OSError, IndexError):
        return {}


def describe(chart: Chart) -> list[str]:
    """Frames, frames a second and codecs."""
    seen = [facts for _, _, facts in chart.seen() if "frames" in facts]
    frames, rates = (sorted(facts[key] for facts in seen) for key in ("frames", "rate"))
    codecs = ", ".join(
        f"{name} ({number})" for name, number in Counter(facts["codec"] for facts in seen).most_common(4)
    )
    sizes = [tuple(facts["size"]) for facts in seen]
    return [
        f"{frames[0]} to {frames[-1]} frames a clip, {rates[0]:g} to {rates[-1]:g} frames a second; {codecs}; {spread(sizes)}"
    ]


def findings(chart: Chart) -> Iterator[Finding]:
    """That there is no task; odd sides, differing lengths, rates and sizes."""
    yield Finding("error", "there is no video task yet: these clips can be looked at, not trained on")
    seen = [(chart.shown(item.name), facts) for _, item, facts in chart.seen() if "frames" in facts]
    odd = tuple(
        f"{name} ({facts['size'][0]}x{facts['size'][1]})"
        for name, facts in seen
        if any(side % 2 for side in facts["size"])
    )
    if odd:
        yield Finding(
            "note",
            f"{count(len(odd), 'clip has', 'clips have')} a side of an odd number of pixels, which some encoders refuse",
            odd,
        )
    kinds = [
        f"{number} {words}"
        for key, words in (("frames", "lengths"), ("rate", "frame rates"), ("size", "picture sizes"))
        if (number := len({str(facts[key]) for _, facts in seen})) > 1
    ]
    if kinds:
        yield Finding("note", f"clips differ: {', '.join(kinds)}")
