"""Images in class folders: what is read right, and what is refused with one clear message."""

from pathlib import Path

import pytest
import torch
from fixture_files import write_image
from PIL import Image

from datamodules.formats.image_folder import ImageFolder
from datamodules.splits.splits import Splits
from foundation.structures import InputError


def prepared(root: Path, **more: object) -> ImageFolder:
    data = ImageFolder(str(root), **more)
    data.setup("fit")
    return data


def test_published_splits_and_a_validation_made_of_train(image_folder: Path) -> None:
    data = prepared(image_folder)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 10, "val": 2, "test": 4}
    assert data.spec.class_names == ("dark", "light")
    assert data.spec.size == (32, 32)
    names = [item.name for items in data.datasets.values() for item in items.items]
    assert len(names) == len(set(names))


def test_no_split_folders(image_folder: Path) -> None:
    data = prepared(image_folder / "train", splits=Splits(val=0.2, test=0.2))
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 8, "val": 2, "test": 2}


def test_batches_are_raw_and_the_same_again(image_folder: Path) -> None:
    first, second = (next(iter(prepared(image_folder, batch_size=4).dataloader("train"))) for _ in range(2))
    assert first["input"].dtype == torch.uint8
    assert torch.equal(first["input"], second["input"])
    assert first["names"] == second["names"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing(image_folder: Path, num_workers: int) -> None:
    def batches(count: int) -> list[torch.Tensor]:
        loader = prepared(image_folder, num_workers=count, batch_size=4).dataloader("train")
        drawn = []
        for epoch in (0, 1):
            loader.batch_sampler.set_epoch(epoch)
            drawn += [batch["input"] for batch in loader]
        return drawn

    for one, other in zip(batches(0), batches(num_workers), strict=True):
        assert torch.equal(one, other)


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    for i, name in enumerate("aaaabbbb"):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", (20, 20), 10 * i).save(tmp_path / name / f"{i}.png")
    assert prepared(tmp_path).spec.channels == 1
    assert prepared(tmp_path, channels=3).datasets["train"].sample(0)[0].shape[0] == 3


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "P", "1", "I;16", "LA"])
def test_kinds_of_pictures(tmp_path: Path, image_folder: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (32, 32)).save(image_folder / "train" / "dark" / f"odd.{suffix}")
    assert len(prepared(image_folder).datasets["train"]) == 11


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        ImageFolder(str(tmp_path / "none"))


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images in class folders"):
        prepared(tmp_path)


def test_one_class(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "1.png")
    with pytest.raises(InputError, match=r"one class only \(cat\)"):
        prepared(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_unreadable_image_is_named(image_folder: Path, suffix: str) -> None:
    bad = write_image(image_folder / "train" / "dark" / f"bad.{suffix}", (64, 64))
    truncate(bad)
    (image_folder / "train" / "light" / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"2 items can't be used") as caught:
        prepared(image_folder)
    assert f"bad.{suffix}" in str(caught.value)
    assert "text.png" in str(caught.value)


def test_a_label_outside_the_classes(image_folder: Path) -> None:
    write_image(image_folder / "test" / "blue" / "1.png")
    with pytest.raises(InputError, match=r"training does not know: \['blue'\]"):
        prepared(image_folder)


def test_one_training_image(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "ab":
            write_image(tmp_path / split / name / "1.png")
    (tmp_path / "train" / "b" / "1.png").unlink()
    with pytest.raises(InputError, match="one class only"):
        prepared(tmp_path)


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        for i in range(3):
            image = Image.new("RGB", (40, 20))
            image.putpixel((0, 0), (255, 255, 255))
            (tmp_path / name).mkdir(exist_ok=True)
            image.save(tmp_path / name / f"{i}.png", exif=exif)
    data = prepared(tmp_path, size=20)
    image = data.open(tmp_path / "a" / "0.png")[1]
    assert (image.height, image.width) == (40, 20)


def test_evaluation_takes_the_checkpoints_classes(image_folder: Path) -> None:
    spec = prepared(image_folder).spec
    data = ImageFolder(str(image_folder))
    data.use_spec(spec)
    data.setup_splits(["test"], ["test"])
    assert set(data.datasets) == {"test"}
    assert data.spec is spec
    (image_folder / "test" / "dark").rename(image_folder / "test" / "other")
    data = ImageFolder(str(image_folder))
    data.use_spec(spec)
    with pytest.raises(InputError, match="does not know"):
        data.setup_splits(["test"], ["test"])


def test_an_empty_class_folder_is_said(image_folder: Path) -> None:
    (image_folder / "train" / "none").mkdir()
    data = ImageFolder(str(image_folder))
    data.setup("fit")
    assert data.spec.class_names == ("dark", "light")
    assert str(image_folder / "train" / "none") in data.notes[0]
