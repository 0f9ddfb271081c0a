"""A few items of the real data sets in folders of their own, laid out as published, for both sides the same."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def put(source: Path, target: Path) -> None:
    """The same file in another folder; a link where that can be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one that can't be written
        shutil.copy(source, target)


def class_folders(source: Path, target: Path, train: int, val: int) -> Path:
    """Pictures in a folder a class, `train` and `val` of them as evenly over the classes as may be."""
    held = "validation" if (source / "validation").is_dir() else "test"
    for split, kept, count in (("train", "train", train), (held, "val", val)):
        groups = [sorted(folder.iterdir()) for folder in sorted((source / split).iterdir()) if folder.is_dir()]
        for path in evenly(groups, count):
            put(path, target / kept / path.parent.name / path.name)
    return target


def evenly(groups: list[list[Path]], count: int) -> Iterable[Path]:
    """One of each group in turn until there are `count`."""
    turns = [(place, index) for index, group in enumerate(groups) for place in range(len(group))]
    return [groups[index][place] for place, index in sorted(turns)[:count]]


def voc(source: Path, target: Path, train: int, val: int) -> Path:
    """The first pictures of both lists of a Pascal VOC folder."""
    lists = Path("ImageSets") / "Main"
    for split, count in (("train", train), ("val", val)):
        names = (source / lists / f"{split}.txt").read_text().split()[:count]
        for name in names:
            put(source / "JPEGImages" / f"{name}.jpg", target / "JPEGImages" / f"{name}.jpg")
            put(source / "Annotations" / f"{name}.xml", target / "Annotations" / f"{name}.xml")
        (target / lists).mkdir(parents=True, exist_ok=True)
        (target / lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return target


def masks(source: Path, target: Path, train: int, val: int) -> Path:
    """The first slices of both splits, with their masks."""
    for split, count in (("train", train), ("val", val)):
        for path in sorted((source / split / "images").iterdir())[:count]:
            put(path, target / split / "images" / path.name)
            put(source / split / "masks" / path.name, target / split / "masks" / path.name)
    return target


def sounds(source: Path, target: Path, train: int, val: int) -> Path:
    """Clips of a manifest, evenly over its rows; its ``test`` split serves for validation."""
    with (source / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = []
    for split, kept, count in (("train", "train", train), ("test", "val", val)):
        own = [row for row in rows if row["split"] == split]
        places = [len(own) * i // count for i in range(min(count, len(own)))]  # every label, to the last
        chosen += [own[place] | {"split": kept} for place in places]
    for row in chosen:
        put(source / row["path"], target / row["path"])
    with (target / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(chosen[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)
    return target
