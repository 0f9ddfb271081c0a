"""Subsets of the real data sets, in the layout of the whole; both sides of a comparison read the same files."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Hard-links a file, or copies it where that is not possible (another file system, read-only source)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def class_folders(source: Path, target: Path, train: int, val: int) -> Path:
    """Takes `train` and `val` images of class folders, evenly over the classes."""
    held_out = "validation" if (source / "validation").is_dir() else "test"
    for split, name, count in (("train", "train", train), (held_out, "val", val)):
        classes = [sorted(folder.iterdir()) for folder in sorted((source / split).iterdir()) if folder.is_dir()]
        for path in round_robin(classes, count):
            link(path, target / name / path.parent.name / path.name)
    return target


def round_robin(groups: list[list[Path]], count: int) -> Iterable[Path]:
    """Returns one path of each group in turn, `count` in all."""
    turns = [(place, index) for index, group in enumerate(groups) for place in range(len(group))]
    return [groups[index][place] for place, index in sorted(turns)[:count]]


def voc(source: Path, target: Path, train: int, val: int) -> Path:
    """Takes the first images of the train and val lists of a Pascal VOC folder."""
    lists = Path("ImageSets") / "Main"
    (target / lists).mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        names = (source / lists / f"{split}.txt").read_text().split()[:count]
        for name in names:
            for path in (f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml"):
                link(source / path, target / path)
        (target / lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return target


def masks(source: Path, target: Path, train: int, val: int) -> Path:
    """Takes the first images of both splits, with their masks."""
    for split, count in (("train", train), ("val", val)):
        for path in sorted((source / split / "images").iterdir())[:count]:
            for kind in ("images", "masks"):
                link(source / split / kind / path.name, target / split / kind / path.name)
    return target


def audio_clips(source: Path, target: Path, train: int, val: int) -> Path:
    """Takes clips of a manifest, evenly over its rows, so that every label occurs; its test split becomes val."""
    with (source / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = []
    for split, name, count in (("train", "train", train), ("test", "val", val)):
        of_split = [row for row in rows if row["split"] == split]
        places = [len(of_split) * i // count for i in range(min(count, len(of_split)))]
        chosen += [of_split[place] | {"split": name} for place in places]
    for row in chosen:
        link(source / row["path"], target / row["path"])
    with (target / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(chosen[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)
    return target


def first_of_each_class(source: Path, target: Path, count: int) -> Path:
    """Takes `count` training images of each class, the next 20 for validation, and the whole test split."""
    if target.is_dir():
        return target
    shutil.copytree(source / "test", target / "test")
    for folder in sorted((source / "train").iterdir()):
        paths = sorted(folder.iterdir(), key=lambda path: (len(path.stem), path.stem))
        splits = ["train"] * count + ["val"] * 20
        for split, path in zip(splits, paths, strict=False):
            link(path, target / split / folder.name / path.name)
    return target
