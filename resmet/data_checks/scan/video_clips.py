"""Reads video clips by their middle frames. There is no video task yet, so this reader is for checks only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import av
import numpy as np
import torch
from av.error import FFmpegError

from datamodules.base.class_folders import recognize_class_folders
from datamodules.base.csv_columns import read_columns, recognize_table
from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import FormatMatch, PathTable, Tree
from datamodules.splits.splits import Item, split_name
from foundation.structures import InputError, Sample, Spec
from resmet.data_checks.scan.files import SUFFIXES, modality_of

CONTAINERS = {
    "protocol_whitelist": "file",
    "format_whitelist": "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,h264,hevc,flv,ogg",
}
"""FFmpeg's options that allow self-contained files only: a playlist named .mp4 could open other files, or URLs."""


@dataclass(kw_only=True, eq=False, repr=False)
class VideoClips(ItemDataModule):
    """The middle frames of clips that a table names, or that lie in a folder per class."""

    ndim = 3

    root: Path = field(kw_only=False)
    tree: Tree = field(kw_only=False)
    table: PathTable | None = field(kw_only=False)

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        """Returns the evidence that `root`, which has the files `tree`, holds labelled videos; None if there is none."""
        table = recognize_table(root, tree, SUFFIXES["video"], "video file")
        return table or recognize_class_folders(tree, SUFFIXES["video"], "video file")

    def read(self) -> dict[str, list[Item]]:
        rows = self.rows_of(self.table) if self.table else self.rows_of_folders()
        class_names = sorted({label for _, label, _, _ in rows})
        self.spec = Spec(self.ndim, 3, tuple(class_names))
        items: dict[str, list[Item]] = {}
        for path, label, split, group in rows:
            item = Item(str(self.root / path), class_names.index(label), group)
            items.setdefault(split_name(split) or "train", []).append(item)
        return items

    def rows_of(self, table: PathTable) -> list[tuple[str, str, str, str]]:
        """Returns path, label, split and group of every row that names a file."""
        columns = read_columns(self.root / table.path)
        empty = [""] * len(table.files)
        cells = [columns.get(table.columns.get(role, ""), empty) for role in ("label", "split", "group")]
        return [row for row in zip(table.files, *cells, strict=True) if row[0]]

    def rows_of_folders(self) -> list[tuple[str, str, str, str]]:
        """Returns path, label, split and group (none) of every clip."""
        paths = [PurePosixPath(name) for name in self.tree if modality_of(name) == "video"]
        return [(str(path), path.parent.name, path.parts[0], "") for path in paths]

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name),)

    def load(self, item: Item) -> Sample:
        """Returns the middle frame uint8 (3, H, W) and the label."""
        try:
            with av.open(item.name, options=CONTAINERS) as container:
                stream = container.streams.video[0]
                if stream.duration:
                    container.seek((stream.start_time or 0) + stream.duration // 2, stream=stream)
                frame = next(container.decode(stream)).to_ndarray(format="rgb24")
        except (FFmpegError, OSError, IndexError, StopIteration) as error:
            message = f"{item.name} can't be read as video ({error}): repair or remove it"
            raise InputError("data.unreadable_video", message) from error
        return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1), item.target
