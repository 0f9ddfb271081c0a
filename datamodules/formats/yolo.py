"""YOLO's text files: a data.yaml, and a line per object with its class and its relative box."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.base.boxes import Annotated, Box, BoxDataModule, ImageAnnotations, names_in
from datamodules.base.recognition import FormatMatch, Tree, paths_in
from datamodules.decoding.image import SUFFIXES, read_header
from datamodules.splits.splits import NAMES, Item
from foundation.storage import safe_load
from foundation.storage.paths import find_files, outside
from foundation.structures import InputError, pluralize

TOLERANCE = 0.01
"""Relative coordinates may be below 0 or above 1 by this, because of rounding."""


@dataclass(kw_only=True, eq=False, repr=False)
class Yolo(BoxDataModule):
    """``images/train`` with ``labels/train``, or ``train/images`` with ``train/labels``, as given in ``data.yaml``.

    A line is ``class x y width height``, the center and the sides of the box relative to the upright image, or a polygon ``class x1 y1
    x2 y2 ...``, whose bounding box is used. An image without a text file has no object.

    Raises:
        InputError: If data.yaml, a folder or an image is missing, or a line is invalid.
    """

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        texts = [path for path in paths_in(tree, {".txt"}) if "labels" in path.parts[:-1]]
        if not texts:  # a data.yaml alone may belong to another program
            return None
        yamls = [name for name in tree if "/" not in name and name.endswith((".yaml", ".yml"))]
        found = yamls[0] if yamls else "but no data.yaml"
        return FormatMatch(f"{pluralize(len(texts), 'text file')} in labels, {found}", 0.6)

    def read(self) -> dict[str, list[Item]]:
        file, content = read_data_yaml(self.root_dir)
        names = class_names(file, content)
        paths = {
            split: [
                path
                for key in keys
                for entry in split_entries(content, key)
                for path in self.paths(file, content, entry)
            ]
            for split, keys in NAMES.items()
            if any(content.get(key) for key in keys)
        }
        if not paths.get("train") and not self.checkpoint_spec:
            message = f"{file} names no training images: expected a line such as train: images/train"
            raise InputError("data.no_train_split", message)
        images = {split: list(self.annotated(own, names)) for split, own in paths.items()}
        if unannotated := sum(not objects.width for members in images.values() for _, objects in members):
            self.notes.append(f"images without a text file, which count as images without objects: {unannotated}")
        return self.make_items(images, self.known_classes(names if names_in(images.get("train", [])) else []))

    def paths(self, file: Path, content: dict, entry: str) -> list[Path]:
        """Returns the images of an entry of data.yaml: a folder, or a text file with a path per line."""
        place = self.locate(file, str(content.get("path") or ""), entry)
        if place.is_dir():
            return find_files(place, SUFFIXES)
        lines = [line.strip() for line in place.read_text(errors="replace").splitlines() if line.strip()]
        return [self.locate(place, "", line) for line in lines]

    def locate(self, file: Path, base: str, entry: str) -> Path:
        """Returns what `entry` of `file` names below the root; exporters write paths of their own machine, whose beginning is ignored.

        Raises:
            InputError: If there is nothing of that name below the root.
        """
        path = PurePosixPath(base.replace("\\", "/"), entry.replace("\\", "/"))
        parts = [part for part in path.parts if part not in ("/", ".", "..")]
        for start in range(len(parts)):
            for folder in (file.parent, self.root_dir):
                found = folder.joinpath(*parts[start:])
                if exists(found) and not outside(self.root_dir, found):
                    return found
        message = f"{file} names {entry}, but there is no such file or folder below {self.root_dir}: correct the path"
        raise InputError("data.missing_file", message)

    def annotated(self, paths: list[Path], names: list[str]) -> Iterator[Annotated]:
        """Yields images with their objects."""
        for path in paths:
            file = label_file(path)
            if not file.is_file():
                yield path, ImageAnnotations(file, [], [])
            elif objects := self.attempt(read_lines, file, path, names):
                yield path, objects


def exists(path: Path) -> bool:
    """Whether there is a file or a folder of this name, which may be invalid."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def split_entries(content: dict[str, Any], key: str) -> list[str]:
    """Returns the entries of a split in data.yaml, one or several."""
    value = content.get(key) or []
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def read_data_yaml(root: Path) -> tuple[Path, dict]:
    """Returns data.yaml and its content."""
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    named = [path for path in found if path.stem in ("data", "dataset")]
    if len(named or found) != 1:
        names = [path.name for path in found] or "none"
        message = (
            f"{root} needs one data.yaml (train, val, names), found {names}: add it, or name one of several data.yaml"
        )
        raise InputError("data.ambiguous_annotations", message)
    file = (named or found)[0]
    content = safe_load.read_yaml(file)
    if not isinstance(content, dict):
        raise InputError("data.invalid_data_yaml", f"{file} has no keys: expected train, val and names")
    return file, content


def class_names(file: Path, content: dict) -> list[str]:
    """Returns the class names in label order, from a list or from {number: name}."""
    names = content.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        message = f"{file} needs names: a list, or numbers 0, 1, ... with their names; it has {names!r}"
        raise InputError("data.invalid_data_yaml", message)
    if content.get("nc") not in (None, len(names)):
        message = f"{file}: nc is {content['nc']}, but names has {len(names)}: make them agree"
        raise InputError("data.invalid_data_yaml", message)
    return [str(name) for name in names]


def label_file(image: Path) -> Path:
    """Returns the text file of an image: the last folder called ``images`` on its path becomes ``labels``."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_lines(file: Path, image: Path, names: list[str]) -> ImageAnnotations:
    """Returns the objects in a text file, boxes in pixels of the upright image."""
    height, width = read_header(image).upright_size
    found, boxes = [], []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        label, box = read_line(f"{file}, line {number}", line, len(names))
        found.append(names[label])
        boxes.append((box[0] * width, box[1] * height, box[2] * width, box[3] * height))
    return ImageAnnotations(file, found, boxes, width, height)


def read_line(where: str, line: str, num_classes: int) -> tuple[int, Box]:
    """Returns the class of a line, and its relative box x1, y1, x2, y2."""
    code = "data.invalid_annotation"
    try:
        label, *rest = [float(word) for word in line.split()]
    except ValueError as error:
        message = f"{where}: {line.strip()[:60]!r} is not numbers: expected class x y width height"
        raise InputError(code, message) from error
    if not 0 <= label < num_classes or label != int(label):
        message = f"{where}: the class {label:g} is not one of 0 to {num_classes - 1}, which data.yaml names"
        raise InputError("data.unknown_class", message)
    if len(rest) < 4 or len(rest) % 2:
        message = f"{where}: {len(rest)} numbers follow the class: expected x y width height, or a polygon"
        raise InputError(code, message)
    if invalid := [value for value in rest if not -TOLERANCE <= value <= 1 + TOLERANCE]:
        message = f"{where}: {invalid[0]:g} is not in 0..1: coordinates are relative to the image, not in pixels"
        raise InputError(code, message)
    if len(rest) == 4:
        x, y, w, h = rest
        return int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    return int(label), (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
