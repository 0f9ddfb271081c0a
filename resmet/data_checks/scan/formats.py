"""Which format a folder is in, and by what it is recognised."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.splits.splits import split_name
from foundation.structures import pluralize
from resmet.data_checks.model.guess import Guess
from resmet.data_checks.model.table import PathTable
from resmet.data_checks.scan.csv_columns import find_table
from resmet.data_checks.scan.file_tree import Tree
from resmet.data_checks.scan.file_types import modality_of

IMAGES = {"images", "image", "imgs", "img"}
MASKS = {"masks", "mask", "labels", "label", "annotations", "gt"}
ANNOTATIONS, PICTURES = ("Annotations", "annotations"), ("JPEGImages", "images")  # of Pascal VOC
PEEK = 1 << 16  # bytes at either end of a JSON file that tell whether it is COCO's


def detect(root: Path, tree: Tree) -> list[Guess]:
    """All formats that `root` could be in, the likeliest first; empty where it holds nothing known."""
    finders: tuple[Callable[[Path, Tree], Iterator[Guess]], ...] = (voc, idx, masks, coco, yolo, table)
    found = [guess for finder in finders for guess in finder(root, tree)]
    return found or list(folders(root, tree))


def parts(tree: Tree) -> Iterator[tuple[str, PurePosixPath]]:
    return ((name, PurePosixPath(name)) for name in tree)


def voc(root: Path, tree: Tree) -> Iterator[Guess]:
    found = Counter(
        (str(path.parent.parent), path.parent.name)
        for _, path in parts(tree)
        if path.parent.name in ANNOTATIONS and path.suffix == ".xml"
    )
    for (base, written), number in found.most_common(1):
        inside = "" if base == "." else f"{base}/"
        pictures = Counter(str(path.parent) for name, path in parts(tree) if modality_of(name) == "image")
        for folder in PICTURES:
            if held := pictures[str(PurePosixPath(base, folder))]:
                said = f"{inside}{written} has {pluralize(number, 'XML file')}, {inside}{folder} {pluralize(held, 'image')}"
                yield Guess("voc", said)
                return


def idx(root: Path, tree: Tree) -> Iterator[Guess]:
    names = [name for name in tree if re.search(r"idx[13]-ubyte(\.gz)?$", name) and idx_head(root / name)]
    if any("idx3" in name for name in names):
        said = [f"{name} {'x'.join(map(str, idx_head(root / name)))}" for name in names]
        yield Guess("idx", f"IDX headers: {', '.join(said[:4])}")


def idx_head(path: Path) -> tuple[int, ...]:
    """The dimensions in the header of an IDX file of bytes; empty where it is none."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                return ()
            return tuple(int.from_bytes(file.read(4), "big") for _ in range(magic[3]))
    except (OSError, EOFError):
        return ()


def masks(root: Path, tree: Tree) -> Iterator[Guess]:
    pictures = [path for name, path in parts(tree) if modality_of(name) == "image"]
    inside = {path.parent for path in pictures}
    pairs = [(base, image, mask) for base in {p.parent for p in inside} for image, mask in couples(base, inside)]
    if not pairs:
        return
    numbers = Counter(path.parent for path in pictures)
    image, mask = (sum(numbers[pair[i]] for pair in pairs) for i in (1, 2))
    if len(pairs) > 3:
        yield Guess(
            "mask_folder",
            f"{pluralize(len(pairs), 'folder')} with an image each and {pluralize(mask, 'mask')}, a mask an object",
        )
    else:
        shown = ", ".join(f"{p[1]} and {p[2]}" for p in sorted(pairs, key=str)[:3])
        yield Guess("mask_folder", f"{pluralize(image, 'image')} and {pluralize(mask, 'mask')} in {shown}")


def couples(base: PurePosixPath, inside: set[PurePosixPath]) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Folders of images and of masks side by side in `base`."""
    names = {path.name.lower(): path for path in inside if path.parent == base}
    image, mask = next(iter(IMAGES & set(names)), None), next(iter(MASKS & set(names)), None)
    if image and mask:
        yield names[image], names[mask]


def coco(root: Path, tree: Tree) -> Iterator[Guess]:
    found = [name for name in tree if name.endswith(".json") and is_coco(root / name)]
    if found:
        yield Guess("coco", f"COCO's images, annotations and categories in {', '.join(found[:3])}")


def is_coco(path: Path) -> bool:
    """Whether the ends of a JSON file show COCO's keys; the middle of a large one is not read."""
    try:
        with path.open("rb") as file:
            text = file.read(PEEK)
            file.seek(max(0, path.stat().st_size - PEEK))
            text += file.read()
    except OSError:
        return False
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return sum(key in text for key in keys) >= 2 and any(key in text for key in (b'"bbox"', b'"segmentation"'))


def yolo(root: Path, tree: Tree) -> Iterator[Guess]:
    """Text files in ``labels``; a data.yaml without them is somebody else's."""
    texts = [name for name, path in parts(tree) if path.suffix == ".txt" and "labels" in path.parts[:-1]]
    lists = [name for name in tree if "/" not in name and name.endswith((".yaml", ".yml"))]
    if texts:
        yield Guess(
            "yolo", f"{pluralize(len(texts), 'text file')} in labels, {lists[0] if lists else 'but no data.yaml'}"
        )


def table(root: Path, tree: Tree) -> Iterator[Guess]:
    found = find_table(root, tree)
    if found is None:
        return
    format = {"image": "image_csv", "audio": "audio_csv", "video": ""}[found.modality]
    label = (
        f"the column {found.columns['label']} their class"
        if "label" in found.columns
        else "columns of 0 and 1 their classes"
    )
    because = f"{found.path} names {pluralize(found.num_files, f'{found.modality} file')}, {label}"
    yield Guess(format, because, table_settings(tree, found), found)


def table_settings(tree: Tree, found: PathTable) -> dict[str, Any]:
    """What the reader of a table must be told: which of several tables, other column names, where the paths start."""
    settings: dict[str, Any] = {}
    if sum(name.lower().endswith((".csv", ".tsv")) and "/" not in name for name in tree) > 1:
        settings["table"] = found.path
    wanted = {role: column for role, column in found.columns.items() if role != "group" or "split" not in found.columns}
    if renamed := {role: column for role, column in wanted.items() if role != column}:
        settings["columns"] = renamed
    if found.modality == "image":
        settings |= {"folder": found.folder} if found.folder else {}
        settings |= {"separator": found.separator} if found.separator else {}
        settings |= {"label_columns": list(found.label_columns)} if found.label_columns else {}
    return settings


def folders(root: Path, tree: Tree) -> Iterator[Guess]:
    numbers: dict[str, Counter[str]] = {}
    for name, path in parts(tree):
        if kind := modality_of(name):
            inside = path.parts[1:] if len(path.parts) > 2 and split_name(path.parts[0]) else path.parts
            numbers.setdefault(kind, Counter())[inside[0] if len(inside) > 1 else ""] += 1
    for kind, classes in sorted(numbers.items(), key=lambda pair: -pair[1].total()):
        named = sorted(set(classes) - {""})
        if len(named) < 2:
            continue
        format = {"image": "image_folder", "audio": "audio_folder", "video": ""}[kind]
        shown = ", ".join(named[:6]) + (", ..." if len(named) > 6 else "")
        yield Guess(
            format, f"{pluralize(classes.total() - classes[''], f'{kind} file')} in {len(named)} class folders: {shown}"
        )
