"""Pascal VOC: boxes as written, and errors before training."""

from pathlib import Path

import pytest
import torch
from data_factories import set_up, split_sizes
from fixture_files import write_image, write_voc_annotation
from PIL import Image
from refusals import refused

from datamodules.decoding.exif import Header, exif_transpose, exif_transpose_boxes
from datamodules.formats.voc import Voc


def test_split_lists_and_boxes(voc: Path) -> None:
    data = set_up(Voc(str(voc)))
    assert split_sizes(data) == {"train": 6, "val": 2}
    assert data.spec.class_names == ("cat", "dog")
    image, target = data.datasets["train"].sample(1)
    assert image.shape == (3, 30, 40)
    assert target["boxes"].tolist() == [[3, 3, 21, 25]]
    assert target["labels"].tolist() == [1]


def test_boxes_scale_with_the_image(voc: Path) -> None:
    image, target = set_up(Voc(str(voc), size=80)).datasets["train"].sample(1)
    assert image.shape == (3, 60, 80)
    assert target["boxes"].tolist() == [[6, 6, 42, 50]]


def test_splits_are_made_without_split_lists(voc: Path) -> None:
    """And the folder may be one below the root."""
    for file in (voc / "ImageSets" / "Main").iterdir():
        file.unlink()
    sizes = split_sizes(set_up(Voc(str(voc.parent))))
    assert set(sizes) == {"train", "val", "test"}
    assert sum(sizes.values()) == 8


def test_boxes_without_area_are_dropped_and_counted(voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", 5, 5, 5, 5), ("cat", 9, 5, 3, 20), ("dog", 1, 1, 9, 9)])
    data = set_up(Voc(str(voc)))
    assert data.dropped == {"0.png": 2}
    assert data.notes == data.dropped_notes()
    assert data.datasets["train"].sample(0)[1]["boxes"].tolist() == [[1, 1, 9, 9]]


def test_boxes_beyond_the_image_are_clipped(voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", -3, 2, 44, 33)])
    assert set_up(Voc(str(voc))).datasets["train"].sample(0)[1]["boxes"].tolist() == [[0, 2, 40, 30]]


@pytest.mark.parametrize(
    ("box", "code"),
    [
        (("cat", 0.1, 0.2, 0.5, 0.9), "data.relative_boxes"),
        (("cat", 100, 2, 120, 20), "data.box_outside_image"),
        (("cat", "x", 2, 120, 20), "data.invalid_annotation"),
        (("cat", "nan", 2, 120, 20), "data.invalid_annotation"),
        (("cow", 1, 1, 9, 9), "data.unknown_class"),  # not a class of the training split
    ],
)
def test_invalid_boxes_are_refused(voc: Path, box: tuple, code: str) -> None:
    write_voc_annotation(voc, "6", [box])
    with refused(code) as error:
        set_up(Voc(str(voc)))
    assert "6.xml" in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("JPEGImages/3.png", None, "data.missing_image"),
        ("Annotations/3.xml", None, "data.missing_annotations"),
        ("Annotations/3.xml", "<annotation><object>", "data.invalid_annotation"),
        ("ImageSets/Main/train.txt", "../../3\n0\n1\n", "data.path_outside_root"),
        ("ImageSets/Main/train.txt", "3\n3\n", "data.duplicate_item"),
    ],
)
def test_missing_and_invalid_files_are_named(voc: Path, file: str, content: str | None, code: str) -> None:
    (voc / file).unlink() if content is None else (voc / file).write_text(content)
    with refused(code) as error:
        set_up(Voc(str(voc)))
    assert "3" in str(error.value)


def test_a_folder_in_another_format_is_refused(tmp_path: Path) -> None:
    with refused("data.missing_folder"):
        set_up(Voc(str(tmp_path)))


def test_folder_names_of_annotation_tools(voc: Path) -> None:
    expected = set_up(Voc(str(voc)))
    (voc / "Annotations").rename(voc / "annotations")
    (voc / "JPEGImages").rename(voc / "images")
    data = set_up(Voc(str(voc)))
    for split, items in expected.datasets.items():
        assert [Path(item.name).name for item in data.datasets[split].items] == [Path(i.name).name for i in items.items]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["stored", "upright"])
def test_boxes_follow_the_exif_orientation(tmp_path: Path, orientation: int, frame: str) -> None:
    """A bright square on black: its box is on it in every orientation."""
    stored = torch.zeros(24, 40)
    stored[3:9, 5:17] = 255
    box = torch.tensor([[5.0, 3, 17, 9]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = Header(40, 24, orientation, 1, 8)
    height, width = header.upright_size
    (tmp_path / "JPEGImages").mkdir()
    if frame == "upright" or (height, width) == (24, 40):  # the same size upright: taken as upright
        box, size = exif_transpose_boxes(box, header), (width, height)
    else:
        size = (40, 24)
    for i in range(4):
        path = tmp_path / "JPEGImages" / f"{i}.jpg"
        Image.fromarray(stored.numpy().astype("uint8")).save(path, exif=exif, quality=95)
        write_voc_annotation(tmp_path, str(i), [("a", *box[0].tolist())], size)
    image, target = set_up(Voc(str(tmp_path))).datasets["train"].sample(0)
    assert image.shape[1:] == (height, width)
    x1, y1, x2, y2 = (int(v) for v in target["boxes"][0])
    inside = image[0, y1:y2, x1:x2].float()
    assert inside.mean() > 230
    assert image[0].float().sum() - inside.sum() < 3000
    assert torch.equal((exif_transpose(stored, orientation) > 0).nonzero().min(0).values, torch.tensor([y1, x1]))


def test_bccd(real: Path) -> None:
    data = Voc(str(real / "bccd"), cache=False)
    found = data.read()
    assert {split: len(items) for split, items in found.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(len(item.target["boxes"]) for items in found.values() for item in items) == 4888 - 2
    assert data.dropped == {"BloodImage_00338.jpg": 1, "BloodImage_00343.jpg": 1}
    assert data.notes == data.dropped_notes()


def test_images_of_different_sizes_are_padded(voc: Path) -> None:
    write_image(voc / "JPEGImages" / "2.png", (60, 90))
    data = set_up(Voc(str(voc), batch_size=6))
    batch = next(iter(data.dataloader("train")))
    assert data.spec.size == (90, 90)
    assert batch["input"].shape[2:] == (90, 90)
    assert set(batch["sizes"]) == {(68, 90), (90, 60)}
