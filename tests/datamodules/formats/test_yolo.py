"""YOLO's text files."""

from pathlib import Path

import pytest
import torch
from data_factories import set_up, split_sizes
from fixture_files import write_image
from refusals import refused

from datamodules.formats.voc import Voc
from datamodules.formats.yolo import Yolo

LINE = "1 0.5 0.5 0.25 0.5\n"
YAML = "train: {train}\nval: {val}\nnc: 2\nnames: [cat, dog]\n"


def write(root: Path, layout: str = "images/{split}", yaml: str | None = None) -> Path:
    folders = {split: layout.format(split=split) for split in ("train", "val")}
    for split, count in (("train", 4), ("val", 2)):
        labels = root / folders[split].replace("images", "labels")
        labels.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            write_image(root / folders[split] / f"{split}{i}.jpg", (40, 20), seed=i)
            (labels / f"{split}{i}.txt").write_text(LINE)
    (root / "data.yaml").write_text(yaml or YAML.format(**folders))
    return root


@pytest.mark.parametrize(
    ("layout", "yaml"),
    [
        ("images/{split}", None),
        ("{split}/images", None),
        ("{split}/images", YAML.format(train="../train/images", val="../val/images")),
        ("images/{split}", "path: ../datasets/mine\n" + YAML.format(train="images/train", val="images/val")),
        ("images/{split}", YAML.format(train="/home/she/data/images/train", val="C:\\\\data\\\\images\\\\val")),
        ("images/{split}", "train: [images/train]\nval: images/val\nnames: {0: cat, 1: dog}\n"),
    ],
)
def test_every_layout_of_folders_gives_the_same_items(tmp_path: Path, layout: str, yaml: str | None) -> None:
    data = set_up(Yolo(str(write(tmp_path, layout, yaml))))
    assert split_sizes(data) == {"train": 4, "val": 2}
    assert data.spec.class_names == ("cat", "dog")
    target = data.datasets["val"].items[0].target
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[15, 5, 25, 15]], [1])


def test_a_split_may_be_a_list_of_images(tmp_path: Path) -> None:
    root = write(tmp_path, yaml=YAML.format(train="train.txt", val="images/val"))
    (root / "train.txt").write_text("./images/train/train0.jpg\n/elsewhere/images/train/train1.jpg\n")
    assert len(set_up(Yolo(str(root))).datasets["train"]) == 2


def test_a_polygon_is_its_bounding_box_and_a_missing_text_file_means_no_object(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "labels/train/train0.txt").write_text("0 0.1 0.1 0.5 0.2 0.3 0.9\n\n")
    (root / "labels/train/train1.txt").unlink()
    (root / "labels/train/train2.txt").write_text("")
    data = set_up(Yolo(str(root)))
    targets = [item.target for item in data.datasets["train"].items]
    assert torch.allclose(targets[0]["boxes"], torch.tensor([[4.0, 2, 20, 18]]))
    assert [len(target["boxes"]) for target in targets] == [1, 0, 0, 1]
    assert data.notes[0].endswith(": 1")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("2 0.5 0.5 0.2 0.2", "data.unknown_class"),
        ("nan 0.5 0.5 0.2 0.2", "data.unknown_class"),
        ("0.5 0.5 0.5 0.2 0.2", "data.unknown_class"),
        ("0 20 10 5 5", "data.invalid_annotation"),
        ("0 0.5 nan 0.2 0.2", "data.invalid_annotation"),
        ("0 0.5 0.5", "data.invalid_annotation"),
        ("cat 0.5 0.5 0.2 0.2", "data.invalid_annotation"),
    ],
)
def test_invalid_lines_are_refused_or_skipped(tmp_path: Path, line: str, code: str) -> None:
    root = write(tmp_path)
    (root / "labels/train/train0.txt").write_text(line)
    with refused(code) as error:
        set_up(Yolo(str(root)))
    assert "train0.txt, line 1" in str(error.value)
    data = set_up(Yolo(str(root), on_error="skip"))
    assert len(data.datasets["train"]) == 3
    assert len(data.skipped) == 1


@pytest.mark.parametrize(
    ("yaml", "code"),
    [
        ("train: images/train\nval: images/val\n", "data.invalid_data_yaml"),
        ("train: images/train\nnames: [a, b]\nnc: 3\n", "data.invalid_data_yaml"),
        ("val: images/val\nnames: [a, b]\n", "data.no_train_split"),
        ("train: images/there\nnames: [a, b]\n", "data.missing_file"),
        ("train: ../../../../etc\nnames: [a, b]\n", "data.missing_file"),
        ("- 1\n", "data.invalid_data_yaml"),
        ("a: [\n", "data.unreadable_yaml"),
    ],
)
def test_an_invalid_data_yaml_is_refused(tmp_path: Path, yaml: str, code: str) -> None:
    with refused(code):
        set_up(Yolo(str(write(tmp_path, yaml=yaml))))


def test_one_data_yaml_is_required(tmp_path: Path) -> None:
    (write(tmp_path) / "data.yaml").unlink()
    with refused("data.ambiguous_annotations"):
        set_up(Yolo(str(tmp_path)))
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("names: [a, b]")
    with refused("data.ambiguous_annotations") as error:
        set_up(Yolo(str(tmp_path)))
    assert "['a.yaml', 'b.yaml']" in str(error.value)


@pytest.mark.slow
def test_bccd_has_the_same_boxes_as_in_voc(real: Path) -> None:
    voc, yolo = set_up(Voc(str(real / "bccd"))), set_up(Yolo(str(real / "bccd_yolo")))
    expected = {Path(item.name).name: item.target for items in voc.datasets.values() for item in items.items}
    assert voc.spec.class_names == yolo.spec.class_names
    for items in yolo.datasets.values():
        for item in items.items:
            other = expected[Path(item.name).name]
            assert torch.equal(item.target["labels"], other["labels"])
            assert (item.target["boxes"] - other["boxes"]).abs().max() < 1e-3  # coordinates have six digits
