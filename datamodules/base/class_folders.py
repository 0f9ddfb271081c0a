"""A folder a class: what images and sounds laid out so have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from datamodules.base.files import FileDataModule
from datamodules.base.recognition import LAYOUT_ONLY, FormatMatch, Tree, paths_in
from datamodules.splits.splits import Item, split_folders, split_name
from foundation.storage.paths import find_files
from foundation.structures import InputError, pluralize

Classes = dict[str, list[Path]]
"""{class: its files}"""


def read_class_folders(
    data: FileDataModule, suffixes: Collection[str], kind: str
) -> tuple[list[str], dict[str, list[Item]]]:
    """Returns class names in label order and the items by split, under ``root/train/CLASS`` or ``root/CLASS``.

    Args:
        data: Whose root is read; the classes of a checkpoint that it adopted are kept.
        suffixes: Of the files that count.
        kind: What they are, for messages.

    Raises:
        InputError: If there is no file, one class only, or a class that training does not know.
    """
    root = data.root_dir
    folders = split_folders(root) or {"train": root}
    classes = {split: classes_in(folder, suffixes) for split, folder in folders.items()}
    if "train" not in classes and not data.checkpoint_spec:
        raise InputError(
            "data.no_train_split", f"{root} has the split folders {sorted(folders)} but no train folder: add one"
        )
    if not any(classes.values()):
        raise InputError(
            "data.no_items", f"{root} holds no {kind} in class folders: expected {root}/train/CLASS/ or {root}/CLASS/"
        )
    names = list(data.checkpoint_spec.class_names) if data.checkpoint_spec else sorted(classes["train"])
    if len(names) < 2:
        text = f"{root} has one class only ({', '.join(names)}): classification needs at least 2 class folders"
        raise InputError("data.one_class", text)
    for split, own in classes.items():
        if unknown := sorted(set(own) - set(names)):
            text = f"{folders[split]} has classes that training does not know: {unknown}. Known: {names}"
            raise InputError("data.unknown_class", text)
    if empty := empty_classes(folders.values(), suffixes):
        listed = f"{', '.join(map(str, empty[:5]))}{' ...' if len(empty) > 5 else ''}"
        data.notes.append(f"class folders without {kind} are skipped: {listed}")
    return names, {split: labelled(own, names) for split, own in classes.items()}


def empty_classes(folders: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    """Returns the class folders below `folders` that hold no file with one of `suffixes`."""
    classes = (folder / name for folder in folders for name in class_names(folder))
    return [path for path in classes if not find_files(path, suffixes)]


def classes_in(folder: Path, suffixes: Collection[str]) -> Classes:
    """The class folders of `folder`; those without a file are left out."""
    found = {name: find_files(folder / name, suffixes) for name in class_names(folder)}
    return {name: paths for name, paths in found.items() if paths}


def class_names(folder: Path) -> list[str]:
    """The folders in `folder` that are not hidden."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def labelled(classes: Classes, names: list[str]) -> list[Item]:
    """The items of all classes, labels numbered as in `names`."""
    pairs = [(name, path) for name, paths in classes.items() for path in paths]
    return [Item(str(path), names.index(name), stratum=name) for name, path in pairs]


def recognize_class_folders(tree: Tree, suffixes: Collection[str], noun: str) -> FormatMatch | None:
    """Recognizes files with one of `suffixes` in at least two class folders; `noun` is what such a file is."""
    classes = Counter[str]()
    for path in paths_in(tree, suffixes):
        inside = path.parts[1:] if len(path.parts) > 2 and split_name(path.parts[0]) else path.parts
        classes[inside[0] if len(inside) > 1 else ""] += 1
    names = sorted(set(classes) - {""})
    if len(names) < 2:
        return None
    num_files = classes.total() - classes[""]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    reason = f"{pluralize(num_files, noun)} in {len(names)} class folders: {shown}"
    return FormatMatch(reason, LAYOUT_ONLY * classes.total() / len(tree))
