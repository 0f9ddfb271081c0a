"""Media files in class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from datamodules.base.files import LabeledFileDataModule
from datamodules.base.recognition import LAYOUT_ONLY, FormatMatch, Tree, paths_in
from datamodules.splits.splits import Item, split_folders, split_name
from foundation.storage.paths import find_files
from foundation.structures import InputError, pluralize


class ClassFolderDataModule(LabeledFileDataModule):
    """``root/train/CLASS/*`` or ``root/CLASS/*``; classes are in alphabetical order.

    Raises:
        InputError: If there is no file, one class only, or a class that the training split lacks.
    """

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_class_folders(tree, cls.suffixes, f"{cls.modality} file")

    def read_labels(self) -> tuple[list[str], dict[str, list[Item]]]:
        root = self.root_dir
        folders = split_folders(root) or {"train": root}
        files = {split: self.files_by_class(folder) for split, folder in folders.items()}
        if "train" not in folders and not self.checkpoint_spec:
            message = f"{root} has the split folders {sorted(folders)} but no train folder: add one"
            raise InputError("data.no_train_split", message)
        if not any(path for by_class in files.values() for paths in by_class.values() for path in paths):
            message = (
                f"{root} has no {self.modality} files in class folders: expected {root}/train/CLASS/ or {root}/CLASS/"
            )
            raise InputError("data.no_items", message)
        if empty := [
            folders[split] / name for split, by_class in files.items() for name, paths in by_class.items() if not paths
        ]:
            listed = f"{', '.join(map(str, empty[:5]))}{' ...' if len(empty) > 5 else ''}"
            self.notes.append(f"class folders without {self.modality} files are skipped: {listed}")
        class_names = self.known_classes(name for name, paths in files.get("train", {}).items() if paths)
        found: dict[str, list[Item]] = {}
        for split, by_class in files.items():
            if unknown := sorted({name for name, paths in by_class.items() if paths} - set(class_names)):
                message = f"{folders[split]} has the classes {unknown}, which are not among the training classes {class_names}"
                raise InputError("data.unknown_class", message)
            pairs = [(name, path) for name, paths in by_class.items() for path in paths]
            found[split] = [Item(str(path), class_names.index(name), stratum=name) for name, path in pairs]
        return class_names, found

    def files_by_class(self, folder: Path) -> dict[str, list[Path]]:
        """Returns {class: its files} for the folders in `folder` that are not hidden."""
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        return {child.name: find_files(child, self.suffixes) for child in children}


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
