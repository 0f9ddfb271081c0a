"""Images in class folders."""

from pathlib import Path

import pytest
import torch
from data_factories import set_up, split_sizes
from fixture_files import write_image
from PIL import Image
from refusals import refused

from datamodules.formats.image_folder import ImageFolder
from datamodules.splits.splits import Splits


def test_published_splits_and_a_validation_split_taken_from_train(image_folder: Path) -> None:
    data = set_up(ImageFolder(str(image_folder)))
    assert split_sizes(data) == {"train": 10, "val": 2, "test": 4}
    assert data.spec.class_names == ("dark", "light")
    assert data.spec.size == (32, 32)
    names = [item.name for items in data.datasets.values() for item in items.items]
    assert len(names) == len(set(names))


def test_no_split_folders(image_folder: Path) -> None:
    data = set_up(ImageFolder(str(image_folder / "train"), splits=Splits(val=0.2, test=0.2)))
    assert split_sizes(data) == {"train": 8, "val": 2, "test": 2}


def test_batches_are_uint8_and_reproducible(image_folder: Path) -> None:
    first, second = (
        next(iter(set_up(ImageFolder(str(image_folder), batch_size=4)).dataloader("train"))) for _ in range(2)
    )
    assert first["input"].dtype == torch.uint8
    assert torch.equal(first["input"], second["input"])
    assert first["names"] == second["names"]


def test_gray_images_have_one_channel(tmp_path: Path) -> None:
    for i, name in enumerate("aaaabbbb"):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", (20, 20), 10 * i).save(tmp_path / name / f"{i}.png")
    assert set_up(ImageFolder(str(tmp_path))).spec.channels == 1
    assert set_up(ImageFolder(str(tmp_path), channels=3)).datasets["train"].sample(0)[0].shape[0] == 3


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "P", "1", "I;16", "LA"])
def test_image_modes(image_folder: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (32, 32)).save(image_folder / "train" / "dark" / f"odd.{suffix}")
    assert len(set_up(ImageFolder(str(image_folder))).datasets["train"]) == 11


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], "data.no_items"),
        (["cat/1.png"], "data.one_class"),
        (["train/a/1.png", "val/a/1.png"], "data.one_class"),
        (["test/a/1.png", "test/b/1.png"], "data.no_train_split"),
        (["train/a/1.png", "train/b/1.png", "test/blue/1.png"], "data.unknown_class"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: list[str], code: str) -> None:
    for file in files:
        write_image(tmp_path / file)
    with refused(code):
        set_up(ImageFolder(str(tmp_path)))


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with refused("data.missing_root"):
        ImageFolder(str(tmp_path / "none"))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_unreadable_images_are_named(image_folder: Path, suffix: str) -> None:
    bad = write_image(image_folder / "train" / "dark" / f"bad.{suffix}", (64, 64))
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    (image_folder / "train" / "light" / "text.png").write_text("not an image")
    with refused("data.unreadable_image") as error:
        set_up(ImageFolder(str(image_folder)))
    assert f"bad.{suffix}" in str(error.value)
    assert "text.png" in str(error.value)


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (40, 20)).save(tmp_path / name / f"{i}.png", exif=exif)
    geometry = set_up(ImageFolder(str(tmp_path), size=20)).open(tmp_path / "a" / "0.png")[1]
    assert (geometry.height, geometry.width) == (40, 20)


def test_evaluation_uses_the_classes_of_the_checkpoint(image_folder: Path) -> None:
    spec = set_up(ImageFolder(str(image_folder))).spec
    data = ImageFolder(str(image_folder))
    data.use_spec(spec)
    data.setup_splits(["test"], ["test"])
    assert set(data.datasets) == {"test"}
    assert data.spec is spec
    (image_folder / "test" / "dark").rename(image_folder / "test" / "other")
    data = ImageFolder(str(image_folder))
    data.use_spec(spec)
    with refused("data.unknown_class"):
        data.setup_splits(["test"], ["test"])


def test_other_data_without_splits_is_evaluated_as_a_whole(image_folder: Path) -> None:
    other = ImageFolder(str(image_folder / "train"))
    other.use_spec(set_up(ImageFolder(str(image_folder))).spec, other_data=True)
    other.setup_splits(["test"], ["test"])
    assert len(other.datasets["test"]) == 12
    assert not other.datasets["test"].random


def test_empty_class_folders_are_noted(image_folder: Path) -> None:
    (image_folder / "train" / "none").mkdir()
    data = set_up(ImageFolder(str(image_folder)))
    assert data.spec.class_names == ("dark", "light")
    assert str(image_folder / "train" / "none") in data.notes[0]
