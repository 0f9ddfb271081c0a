"""YOLO's text files."""

from pathlib import Path

import pytest
import torch
from fixture_files import write_image

from datamodules.formats.voc import Voc
from datamodules.formats.yolo import Yolo
from foundation.structures import InputError

LINE = "1 0.5 0.5 0.25 0.5\n"
YAML = "train: {train}\nval: {val}\nnc: 2\nnames: [cat, dog]\n"


def draw(root: Path, layout: str = "images/{split}", yaml: str | None = None) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        folder = root / layout.format(split=split)
        for i in range(count):
            write_image(folder / f"{split}{i}.jpg", (40, 20), seed=i)
            label = root / layout.format(split=split).replace("images", "labels") / f"{split}{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(LINE)
    (root / "data.yaml").write_text(
        yaml or YAML.format(train=layout.format(split="train"), val=layout.format(split="val"))
    )
    return root


def prepared(root: Path, **arguments: object) -> Yolo:
    data = Yolo(str(root), **arguments)
    data.setup("fit")
    return data


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
def test_layouts(tmp_path: Path, layout: str, yaml: str | None) -> None:
    data = prepared(draw(tmp_path, layout, yaml))
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 4, "val": 2}
    assert data.spec.class_names == ("cat", "dog")
    target = data.datasets["val"].items[0].target
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[15, 5, 25, 15]], [1])


def test_lists_of_images(tmp_path: Path) -> None:
    root = draw(tmp_path, yaml=YAML.format(train="train.txt", val="images/val"))
    (root / "train.txt").write_text("./images/train/train0.jpg\n/elsewhere/images/train/train1.jpg\n")
    assert len(prepared(root).datasets["train"]) == 2


def test_a_polygon_is_its_box_and_no_file_is_no_object(tmp_path: Path) -> None:
    root = draw(tmp_path)
    (root / "labels/train/train0.txt").write_text("0 0.1 0.1 0.5 0.2 0.3 0.9\n\n")
    (root / "labels/train/train1.txt").unlink()
    (root / "labels/train/train2.txt").write_text("")
    data = prepared(root)
    targets = [item.target for item in data.datasets["train"].items]
    assert torch.allclose(targets[0]["boxes"], torch.tensor([[4.0, 2, 20, 18]]))
    assert [len(t["boxes"]) for t in targets] == [1, 0, 0, 1]
    assert "images without a text file, which count as images without objects: 1" in data.notes[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.2 0.2", r"train0\.txt, line 1: the class 2 is none of 0 to 1"),
        ("nan 0.5 0.5 0.2 0.2", "the class nan is none of"),
        ("0.5 0.5 0.5 0.2 0.2", "the class 0.5 is none of"),
        ("0 20 10 5 5", "20 is not in 0..1: coordinates are shares of the image"),
        ("0 0.5 nan 0.2 0.2", "nan is not in 0..1"),
        ("0 0.5 0.5", "2 numbers follow the class"),
        ("cat 0.5 0.5 0.2 0.2", "is not numbers"),
    ],
)
def test_lines_that_cannot_be_right(tmp_path: Path, line: str, said: str) -> None:
    root = draw(tmp_path)
    (root / "labels/train/train0.txt").write_text(line)
    with pytest.raises(InputError, match=said):
        prepared(root)
    skipped = prepared(root, on_error="skip")
    assert len(skipped.datasets["train"]) == 3
    assert len(skipped.skipped) == 1


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("train: images/train\nval: images/val\n", "needs names"),
        ("train: images/train\nnames: [a, b]\nnc: 3\n", "nc is 3, but names has 2"),
        ("val: images/val\nnames: [a, b]\n", "names no training images"),
        ("train: images/there\nnames: [a, b]\n", "names images/there, but there is no such file or folder"),
        ("train: ../../../../etc\nnames: [a, b]\n", "there is no such file or folder below"),
        ("- 1\n", "holds no keys"),
        ("a: [\n", "can't be read as YAML"),
    ],
)
def test_yaml_that_cannot_be_right(tmp_path: Path, yaml: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepared(draw(tmp_path, yaml=yaml))


def test_no_yaml(tmp_path: Path) -> None:
    (draw(tmp_path) / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"needs one data\.yaml .* found none: add it$"):
        prepared(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("names: [a, b]")
    with pytest.raises(
        InputError, match=r"found \['a.yaml', 'b.yaml'\]: name one of them data.yaml, or remove the others$"
    ):
        prepared(tmp_path)


@pytest.mark.slow
def test_the_same_pictures_as_voc(real: Path) -> None:
    voc, yolo = Voc(str(real / "bccd")), Yolo(str(real / "bccd_yolo"))
    voc.setup("fit")
    yolo.setup("fit")
    known = {Path(item.name).name: item.target for items in voc.datasets.values() for item in items.items}
    assert voc.spec.class_names == yolo.spec.class_names
    for items in yolo.datasets.values():
        for item in items.items:
            other = known[Path(item.name).name]
            assert torch.equal(item.target["labels"], other["labels"])
            assert (item.target["boxes"] - other["boxes"]).abs().max() < 1e-3  # six digits of a share
