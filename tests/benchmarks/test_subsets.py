"""A subset has so many items, in the layout of the whole."""

import csv
from pathlib import Path

from benchmarks.rivals.audio import Clips
from benchmarks.rivals.detection import Voc
from benchmarks.subsets import class_folders, sounds, voc


def test_classes_come_evenly(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        for name in ("hat", "shoe"):
            (tmp_path / "all" / split / name).mkdir(parents=True)
            for index in range(4):
                (tmp_path / "all" / split / name / f"{index}.jpg").touch()
    root = class_folders(tmp_path / "all", tmp_path / "few", 4, 2)
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    assert found == [
        "train/hat/0.jpg",
        "train/hat/1.jpg",
        "train/shoe/0.jpg",
        "train/shoe/1.jpg",
        "val/hat/0.jpg",
        "val/shoe/0.jpg",
    ]


def test_boxes_keep_their_lists_and_the_rival_reads_them(real: Path, tmp_path: Path) -> None:
    root = voc(real / "bccd" / "BCCD", tmp_path / "few", 3, 2)
    there = Voc(root, "train", ("Platelets", "RBC", "WBC"), lambda image, target: (image, target))
    assert len(there) == 3
    _, target = there[0]
    assert len(target["boxes"]) == len(target["labels"]) > 0
    assert target["labels"].min() >= 1


def test_clips_are_of_one_length(real: Path, tmp_path: Path) -> None:
    root = sounds(real / "fsdd", tmp_path / "few", 6, 4)
    train, held = Clips(root, "train", 4000, True), Clips(root, "val", 4000, False)
    assert (len(train), len(held)) == (6, 4)
    assert {tuple(train[index][0].shape) for index in range(6)} == {(1, 4000)}
    assert held[0][0].pow(2).mean().sqrt().sub(1).abs() < 1e-3


def test_few_clips_have_every_label(real: Path, tmp_path: Path) -> None:
    root = sounds(real / "fsdd", tmp_path / "few", 600, 150)
    with (root / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for split, count in (("train", 600), ("val", 150)):
        own = [row["label"] for row in rows if row["split"] == split]
        assert (len(own), len(set(own))) == (count, 10)
