"""Image files named in a CSV table, with one class each or any number of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from datamodules.base.csv_columns import recognize_table
from datamodules.base.csv_table import Table, natural, read_classes, refuse_one_class
from datamodules.base.dataset import Sample
from datamodules.base.images import ImageDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import SUFFIXES
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import Augment
from foundation.structures import InputError

YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}


class ImageCsv(ImageDataModule):
    """A table with a path and a label and, if the data has them, a split and a group column.

    Any number of classes an image are given in one of two ways: a label column with `separator` between the names
    (``cat|dog``, nothing for none), or a column of 0 and 1 a class, listed in `label_columns`.

    Args:
        root: The folder of the data.
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: ``path``, ``label``, ``split`` and ``group``: what the table calls them.
        folder: Folder below `root` from which the paths start; a path without suffix gets the one that its file has.
        separator: What stands between several class names in the label column; None is one class an image.
        label_columns: The columns of 0 and 1, one a class; empty takes the label column.
        size: Side in pixels; None keeps images that are all of one size of at most 224, else 224. The middle is cut out.
        channels: 1 (grey), 3 (RGB) or as many as the files have; None takes 1 where all images are grey.
        window: Lowest and highest value of images with more than 8 bits; None takes those that occur.
        splits: How the splits that the table lacks are made; a group is never in two of them.
        batch_size: Images a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Where decoded images are kept: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        seed: Of splits, shuffle and changes.
        augment: Changes to training images.
        on_error: ``stop`` or ``skip`` where an image or a row can't be used.
        balanced: Draw every class equally often while training; for one class an image.

    Raises:
        InputError: If the table, a column or a file is missing, or there are fewer than two classes.
    """

    resize = "crop"

    def __init__(
        self,
        root: str,
        table: str | None = None,
        columns: dict[str, str] | None = None,
        folder: str = "",
        separator: str | None = None,
        label_columns: list[str] | None = None,
        size: int | None = None,
        channels: int | None = None,
        window: list[float] | None = None,
        splits: Splits = Splits(),
        batch_size: int = 32,
        num_workers: int | None = None,
        cache: Literal["auto", "ram", "disk", "off"] | bool = "auto",
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
        on_error: Literal["stop", "skip"] = "stop",
        balanced: bool = False,
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            window,
            splits,
            batch_size=batch_size,
            num_workers=num_workers,
            cache=cache,
            seed=seed,
            augment=augment,
            on_error=on_error,
            balanced=balanced,
        )
        self.table, self.columns, self.folder = table, columns or {}, folder
        self.separator, self.label_columns = separator, label_columns or []
        self.kind = "labels" if self.separator or self.label_columns else "label"
        if balanced and self.kind == "labels":
            raise InputError("data.balanced needs one class an image, here are several: leave it off")

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        match = recognize_table(root, tree, SUFFIXES, "image file")
        if match is None or match.table is None:
            return None
        keys = {
            "folder": match.table.folder,
            "separator": match.table.separator,
            "label_columns": list(match.table.label_columns),
        }
        return replace(match, settings={**match.settings, **{key: value for key, value in keys.items() if value}})

    def read(self) -> dict[str, list[Item]]:
        columns = {"path": "path", "label": "label"} | self.columns
        needed = [columns["path"], *(self.label_columns or [columns["label"]])]
        table = Table(self.root, self.table, self.columns, needed, self.folder, tuple(sorted(SUFFIXES)))
        names, found = read_classes(self, table) if self.kind == "label" else self.read_several(table)
        paths = [Path(item.name) for members in found.values() for item in members]
        self.spec = self.make_spec(names, self.look(paths))
        return self.divide(found)

    def read_several(self, table: Table) -> tuple[list[str], dict[str, list[Item]]]:
        """Class names in label order and the items by split; a target is 0 or 1 a class, uint8 (C,)."""
        lines = range(len(table.rows))
        said = {line: words for line in lines if (words := self.attempt(self.words, table, line)) is not None}
        names = self.label_columns or sorted(
            {w for line in said for w in said[line] if table.split(line) == "train"}, key=natural
        )
        names = list(self.checkpoint_spec.class_names) if self.checkpoint_spec else names
        refuse_one_class(table, names)

        def item(line: int) -> Item:
            if unknown := [word for word in said[line] if word not in names]:
                raise InputError(
                    f"{table.at(line)}: the label {unknown[0]!r} is not one of the training classes {names}"
                )
            target = torch.tensor([name in said[line] for name in names], dtype=torch.uint8)
            return Item(str(table.path(line)), target, table.group(line), tuple(sorted(said[line])))

        found: dict[str, list[Item]] = {}
        for line in said:
            if made := self.attempt(item, line):
                found.setdefault(table.split(line), []).append(made)
        return names, found

    def words(self, table: Table, line: int) -> list[str]:
        """The names of the classes that a row says are there."""
        table.path(line), table.split(line)
        row = table.rows[line]
        if not self.label_columns:
            words = (row[table.columns["label"]] or "").split(self.separator)
            return [word.strip() for word in words if word.strip()]
        values = {name: (row[name] or "").strip().lower() for name in self.label_columns}
        for name, value in values.items():
            if value not in YES | NO:
                raise InputError(f"{table.at(line)}: {name} is {row[name]!r}: it must be 0 or 1")
        return [name for name, value in values.items() if value in YES]

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        sides = {side for shape in shapes for side in shape}
        return sides.pop() if len(sides) == 1 and max(sides) <= 224 else 224

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target
