"""Pascal VOC: boxes as written, and what can't be right said before training."""

from pathlib import Path

import pytest
import torch
from fixture_files import write_image, write_voc_annotation
from PIL import Image

from datamodules.decoding.exif import Header, exif_transpose, exif_transpose_boxes
from datamodules.formats.voc import Voc
from foundation.structures import InputError


def prepared(root: Path, **more: object) -> Voc:
    data = Voc(str(root), **more)
    data.setup("fit")
    return data


def test_lists_and_boxes(voc: Path) -> None:
    data = prepared(voc)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 6, "val": 2}
    assert data.spec.class_names == ("cat", "dog")
    image, target = data.datasets["train"].sample(1)
    assert image.shape == (3, 30, 40)
    assert target["boxes"].tolist() == [[3, 3, 21, 25]]
    assert target["labels"].tolist() == [1]


def test_boxes_scale_with_the_image(voc: Path) -> None:
    image, target = prepared(voc, size=80).datasets["train"].sample(1)
    assert image.shape == (3, 60, 80)
    assert target["boxes"].tolist() == [[6, 6, 42, 50]]


def test_no_lists_and_one_folder_down(voc: Path) -> None:
    for file in (voc / "ImageSets" / "Main").iterdir():
        file.unlink()
    data = prepared(voc.parent)
    assert sum(len(items) for items in data.datasets.values()) == 8
    assert set(data.datasets) == {"train", "val", "test"}


def test_boxes_without_area_are_dropped_counted_and_said(voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", 5, 5, 5, 5), ("cat", 9, 5, 3, 20), ("dog", 1, 1, 9, 9)])
    data = prepared(voc)
    assert data.dropped == {"0.png": 2}
    assert data.notes == data.dropped_notes()
    assert data.datasets["train"].sample(0)[1]["boxes"].tolist() == [[1, 1, 9, 9]]


def test_boxes_over_the_edge_are_cut(voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", -3, 2, 44, 33)])
    assert prepared(voc).datasets["train"].sample(0)[1]["boxes"].tolist() == [[0, 2, 40, 30]]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (("cat", 0.1, 0.2, 0.5, 0.9), "lie in 0..1, pixels are meant"),
        (("cat", 100, 2, 120, 20), "outside its 40x30 image"),
        (("cat", "x", 2, 120, 20), "can't be read as a VOC annotation"),
        (("cat", "nan", 2, 120, 20), "can't be read as a VOC annotation"),
    ],
)
def test_boxes_that_cannot_be_right(voc: Path, box: tuple, said: str) -> None:
    write_voc_annotation(voc, "0", [box])
    with pytest.raises(InputError, match=said) as caught:
        prepared(voc)
    assert "0.xml" in str(caught.value)


def test_a_class_that_training_does_not_know(voc: Path) -> None:
    write_voc_annotation(voc, "6", [("cow", 1, 1, 9, 9)])
    with pytest.raises(InputError, match=r"6.xml: class 'cow' is not one of the training classes \['cat', 'dog'\]"):
        prepared(voc)


def test_an_xml_without_its_image(voc: Path) -> None:
    (voc / "JPEGImages" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.xml has no image in .*JPEGImages"):
        prepared(voc)


def test_a_listed_name_without_xml(voc: Path) -> None:
    (voc / "Annotations" / "3.xml").unlink()
    with pytest.raises(InputError, match=r"3\.xml is missing"):
        prepared(voc)


def test_broken_xml(voc: Path) -> None:
    (voc / "Annotations" / "3.xml").write_text("<annotation><object>")
    with pytest.raises(InputError, match=r"3\.xml can't be read"):
        prepared(voc)


def test_a_list_may_not_lead_outside(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "train.txt").write_text("../../secret\n0\n")
    with pytest.raises(InputError, match="leads out of"):
        prepared(voc)


def test_folders_as_annotation_tools_name_them(voc: Path) -> None:
    known = prepared(voc)
    (voc / "Annotations").rename(voc / "annotations")
    (voc / "JPEGImages").rename(voc / "images")
    data = prepared(voc)
    for split, items in known.datasets.items():
        assert [Path(item.name).name for item in data.datasets[split].items] == [Path(i.name).name for i in items.items]


def test_no_voc_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Pascal VOC folder"):
        prepared(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["stored", "shown"])
def test_exif_keeps_image_and_boxes_together(tmp_path: Path, orientation: int, frame: str) -> None:
    """A bright square on black: wherever the photograph was turned to, its box is on it."""
    stored = torch.zeros(24, 40)
    stored[3:9, 5:17] = 255
    box = torch.tensor([[5.0, 3, 17, 9]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = Header(40, 24, orientation, 1, 8)
    height, width = header.upright_size
    (tmp_path / "JPEGImages").mkdir()
    for i in range(4):
        Image.fromarray(stored.numpy().astype("uint8")).save(
            tmp_path / "JPEGImages" / f"{i}.jpg", exif=exif, quality=95
        )
        turned = exif_transpose_boxes(box, header)[0].tolist()
        ambiguous = (height, width) == (24, 40)
        if frame == "shown" or ambiguous:
            write_voc_annotation(tmp_path, str(i), [("a", *turned)], (width, height))
        else:
            write_voc_annotation(tmp_path, str(i), [("a", *box[0].tolist())], (40, 24))
    image, target = prepared(tmp_path).datasets["train"].sample(0)
    assert image.shape[1:] == (height, width)
    x1, y1, x2, y2 = (int(v) for v in target["boxes"][0])
    inside = image[0, y1:y2, x1:x2].float().mean()
    assert inside > 230
    assert image[0].float().sum() - image[0, y1:y2, x1:x2].float().sum() < 3000
    assert torch.equal((exif_transpose(stored, orientation) > 0).nonzero().min(0).values, torch.tensor([y1, x1]))


def test_bccd(real: Path) -> None:
    data = Voc(str(real / "bccd"), cache=False)
    found = data.read()
    assert {split: len(items) for split, items in found.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(len(item.target["boxes"]) for items in found.values() for item in items) == 4888 - 2
    assert data.dropped == {"BloodImage_00338.jpg": 1, "BloodImage_00343.jpg": 1}
    assert data.notes == data.dropped_notes()


def test_pictures_of_unequal_size_are_padded(voc: Path) -> None:
    write_image(voc / "JPEGImages" / "2.png", (60, 90))
    data = prepared(voc, batch_size=6)
    batch = next(iter(data.dataloader("train")))
    assert data.spec.size == (90, 90)
    assert batch["input"].shape[2:] == (90, 90)
    assert set(batch["sizes"]) == {(68, 90), (90, 60)}
