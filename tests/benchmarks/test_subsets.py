"""A subset has the requested number of items, in the layout of the whole set."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fixture_files import write_image, write_voc_annotation, write_wav

from benchmarks.rivals.audio import Clips
from benchmarks.rivals.detection import Voc
from benchmarks.tasks import audio_clips, class_folders, voc


def test_images_are_spread_over_the_classes(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        for name in ("hat", "shoe"):
            for index in range(4):
                write_image(tmp_path / "all" / split / name / f"{index}.png")
    root = tmp_path / "few"
    class_folders(tmp_path / "all", root, 4, 2)
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    train = ["train/hat/0.png", "train/hat/1.png", "train/shoe/0.png", "train/shoe/1.png"]
    assert paths == [*train, "val/hat/0.png", "val/shoe/0.png"]


def test_boxes_keep_their_lists_and_the_rival_reads_them(tmp_path: Path) -> None:
    source, lists = tmp_path / "all", tmp_path / "all" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for index in range(6):
        write_image(source / "JPEGImages" / f"{index}.jpg", (40, 30))
        write_voc_annotation(source, str(index), [("WBC", 2, 3, 20, 25)])
    (lists / "train.txt").write_text("0\n1\n2\n3\n")
    (lists / "val.txt").write_text("4\n5\n")
    voc(source, tmp_path / "few", 3, 2)
    train = Voc(tmp_path / "few", "train", ("RBC", "WBC"), lambda image, target: (image, target))
    assert len(train) == 3
    _, target = train[0]
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[2.0, 3.0, 20.0, 25.0]], [2])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Ten clips of each of ten labels, sorted by label, half of them in the test split."""
    rows = [(f"{index}.wav", index // 10, ("train", "test")[index % 2]) for index in range(100)]
    for path, label, _ in rows:
        write_wav(tmp_path / "all" / path, np.sin(np.arange(200 + 50 * label) / 5))
    lines = ["path,label,split", *(f"{path},{label},{split}" for path, label, split in rows)]
    (tmp_path / "all" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "all"


def test_clips_have_one_length_and_every_label(clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "few"
    audio_clips(clips, root, 20, 10)
    train, val = Clips(root, "train", 400, True), Clips(root, "val", 400, False)
    assert (len(train), len(val)) == (20, 10)
    assert {tuple(train[index][0].shape) for index in range(20)} == {(1, 400)}
    assert abs(float(val[0][0].pow(2).mean().sqrt()) - 1) < 1e-3
    with (root / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for split in ("train", "val"):
        assert len({row["label"] for row in rows if row["split"] == split}) == 10
