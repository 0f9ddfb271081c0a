"""YOLO's text files: a data.yaml, and a line an object with its class and its box in shares of the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.base.boxes import Box, BoxDataModule, Objects, names_in
from datamodules.base.recognition import FormatMatch, Tree, paths_in
from datamodules.decoding.image import SUFFIXES, read_header
from datamodules.splits.splits import Item
from foundation.storage import safe_load
from foundation.storage.paths import find_files, outside
from foundation.structures import InputError, pluralize

TOLERANCE = 0.01  # of the image: what rounding may put a box over the edge


@dataclass(kw_only=True, eq=False, repr=False)
class Yolo(BoxDataModule):
    """``images/train`` with ``labels/train``, or ``train/images`` with ``train/labels``, as ``data.yaml`` says.

    A line is ``class x y width height``, the box's centre and sides as shares of the upright image, or a polygon ``class x1 y1
    x2 y2 ...``, of which the box around it is taken. An image without a text file holds no object.

    Raises:
        InputError: If data.yaml, a folder or an image is missing, or a line can't be right.
    """

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        texts = [path for path in paths_in(tree, {".txt"}) if "labels" in path.parts[:-1]]
        if not texts:  # a data.yaml alone may belong to another program
            return None
        lists = [name for name in tree if "/" not in name and name.endswith((".yaml", ".yml"))]
        return FormatMatch(
            f"{pluralize(len(texts), 'text file')} in labels, {lists[0] if lists else 'but no data.yaml'}", 0.6
        )

    def read(self) -> dict[str, list[Item]]:
        file, content = read_yaml(self.root_dir)
        names = class_names(file, content)
        images = {
            split: [p for entry in entries(content.get(key)) for p in self.images(file, content, entry)]
            for split, keys in (("train", ("train",)), ("val", ("val", "valid", "validation")), ("test", ("test",)))
            for key in keys
            if content.get(key)
        }
        if not images.get("train") and not self.checkpoint_spec:
            raise InputError(
                "data.no_train_split", f"{file} names no training images: expected a line such as train: images/train"
            )
        pairs = {split: list(self.pairs(paths, names)) for split, paths in images.items()}
        self.note_bare()
        if not self.checkpoint_spec and not names_in(o for _, o in pairs.get("train", [])):
            raise InputError(
                "data.no_objects", f"{self.root_dir} has no object in its training images: there is nothing to detect"
            )
        return self.make_items(pairs, list(self.checkpoint_spec.class_names) if self.checkpoint_spec else names)

    def images(self, file: Path, content: dict, entry: str) -> list[Path]:
        """The images that an entry of data.yaml means: a folder, or a text file with a path a line."""
        place = self.locate(file, str(content.get("path") or ""), entry)
        if place.is_dir():
            return find_files(place, SUFFIXES)
        lines = [line.strip() for line in place.read_text(errors="replace").splitlines() if line.strip()]
        return [self.locate(place, "", line) for line in lines]

    def locate(self, file: Path, base: str, entry: str) -> Path:
        """`entry` of `file` below the root; exporters write paths of their own machine, whose start is dropped.

        Raises:
            InputError: If there is nothing below the root to which it could lead.
        """
        parts = [
            part
            for part in PurePosixPath(base.replace("\\", "/"), entry.replace("\\", "/")).parts
            if part not in ("/", ".", "..")
        ]
        for start in range(len(parts)):
            for folder in (file.parent, self.root_dir):
                path = folder.joinpath(*parts[start:])
                if exists(path) and not outside(self.root_dir, path):
                    return path
        raise InputError(
            "data.missing_file",
            f"{file} names {entry}, but there is no such file or folder below {self.root_dir}: correct the path",
        )

    def pairs(self, paths: list[Path], names: list[str]) -> Iterator[tuple[Path, Objects]]:
        """Images with what their text files say."""
        self.bare = getattr(self, "bare", 0)
        for path in paths:
            file = label_file(path)
            if not file.is_file():
                self.bare += 1
                yield path, Objects(file, [], [])
            elif objects := self.attempt(read_lines, file, path, names):
                yield path, objects

    def note_bare(self) -> None:
        if self.bare:
            self.notes.append(f"images without a text file, which count as images without objects: {self.bare}")


def exists(path: Path) -> bool:
    """Whether there is a file or a folder of this name; of one that nothing can have, there is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def entries(value: Any) -> list[str]:
    """What stands behind a split in data.yaml, one or several."""
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def read_yaml(root: Path) -> tuple[Path, dict]:
    """data.yaml and what it says."""
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    named = [path for path in found if path.stem in ("data", "dataset")]
    if len(named or found) != 1:
        raise InputError(
            "data.ambiguous_annotations",
            f"{root} needs one data.yaml (train, val, names), found {[p.name for p in found] or 'none'}: "
            + ("name one of them data.yaml, or remove the others" if found else "add it"),
        )
    file = (named or found)[0]
    content = safe_load.read_yaml(file)
    if not isinstance(content, dict):
        raise InputError("data.invalid_data_yaml", f"{file} holds no keys: expected train, val and names")
    return file, content


def class_names(file: Path, content: dict) -> list[str]:
    """Class names in label order, from a list or from {number: name}."""
    names = content.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(
            "data.invalid_data_yaml",
            f"{file} needs names: a list, or numbers 0, 1, ... with their names; it has {names!r}",
        )
    if content.get("nc") not in (None, len(names)):
        raise InputError(
            "data.invalid_data_yaml", f"{file}: nc is {content['nc']}, but names has {len(names)}: make them agree"
        )
    return [str(name) for name in names]


def label_file(image: Path) -> Path:
    """The text file of an image: the last folder called ``images`` on its path becomes ``labels``."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_lines(file: Path, image: Path, names: list[str]) -> Objects:
    """The objects in a text file, boxes in the upright image's pixels."""
    height, width = read_header(image).upright_size
    found, boxes = [], []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        label, box = read_line(f"{file}, line {number}", line, len(names))
        found.append(names[label])
        boxes.append((box[0] * width, box[1] * height, box[2] * width, box[3] * height))
    return Objects(file, found, boxes, width, height)


def read_line(where: str, line: str, classes: int) -> tuple[int, Box]:
    """A line's class, and its box x1, y1, x2, y2 in shares of the image."""
    try:
        first, *rest = [float(word) for word in line.split()]
    except ValueError as error:
        raise InputError(
            "data.invalid_annotation", f"{where}: {line.strip()[:60]!r} is not numbers: expected class x y width height"
        ) from error
    if not 0 <= first < classes or first != int(first):
        raise InputError(
            "data.unknown_class", f"{where}: the class {first:g} is none of 0 to {classes - 1}, which data.yaml names"
        )
    if len(rest) < 4 or len(rest) % 2:
        raise InputError(
            "data.invalid_annotation",
            f"{where}: {len(rest)} numbers follow the class: expected x y width height, or a polygon",
        )
    if wrong := [value for value in rest if not -TOLERANCE <= value <= 1 + TOLERANCE]:
        raise InputError(
            "data.invalid_annotation",
            f"{where}: {wrong[0]:g} is not in 0..1: coordinates are shares of the image, not pixels",
        )
    if len(rest) == 4:
        x, y, w, h = rest
        return int(first), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    return int(first), (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
