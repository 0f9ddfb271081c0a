"""Images with masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_factories import set_up, split_sizes
from fixture_files import write_image
from PIL import Image
from refusals import refused

from datamodules.formats.mask_folder import MaskFolder
from foundation.structures import IGNORE

VALUES = {0: "background", 255: "cell"}


def save_mask(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def test_zero_and_255_are_background_and_object(mask_folder: Path) -> None:
    data = set_up(MaskFolder(str(mask_folder)))
    assert data.spec.class_names == ("background", "object")
    assert "data.values='{0: object, 255: background}'" in data.notes[0]
    image, mask = data.datasets["train"].sample(0)
    assert image.shape[1:] == mask.shape == (30, 40)
    assert mask.unique().tolist() == [0, 1]


def test_values_may_be_inverted(mask_folder: Path) -> None:
    usual, inverted = (
        set_up(MaskFolder(str(mask_folder), values=values)) for values in (VALUES, {0: "cell", 255: "background"})
    )
    assert usual.spec.class_names == inverted.spec.class_names == ("background", "cell")
    assert torch.equal(usual.datasets["train"].sample(0)[1], 1 - inverted.datasets["train"].sample(0)[1])


def test_pixels_can_be_ignored(mask_folder: Path) -> None:
    data = set_up(MaskFolder(str(mask_folder), values={0: "ground", 7: "tree", 255: "ignore"}))
    assert data.spec.class_names == ("ground", "tree")
    assert set(data.datasets["train"].sample(0)[1].unique().tolist()) == {0, IGNORE}


def test_split_folders(mask_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    root.mkdir()
    mask_folder.rename(root / "train")
    for i in range(2):
        write_image(root / "val" / "images" / f"{i}.png", (40, 30))
        save_mask(root / "val" / "masks" / f"{i}.png", np.zeros((30, 40)))
    assert split_sizes(set_up(MaskFolder(str(root)))) == {"train": 6, "val": 2}


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (np.zeros((31, 40)), "data.size_mismatch"),
        (np.full((30, 40), 9), "data.unknown_mask_value"),
        (np.arange(3600).reshape(30, 40, 3) % 251, "data.color_mask"),
        (b"nothing", "data.unreadable_image"),
        (None, "data.missing_mask"),
    ],
)
def test_unusable_masks_are_named(mask_folder: Path, mask: np.ndarray | bytes | None, code: str) -> None:
    path = mask_folder / "masks" / "2.png"
    if mask is None:
        path.unlink()
    elif isinstance(mask, bytes):
        path.write_bytes(mask)
    else:
        save_mask(path, mask)
    with refused(code) as error:
        set_up(MaskFolder(str(mask_folder), values=VALUES))
    assert "2.png" in str(error.value)


def test_a_mask_without_an_image_is_refused(mask_folder: Path) -> None:
    (mask_folder / "images" / "3.png").unlink()
    with refused("data.missing_image"):
        set_up(MaskFolder(str(mask_folder)))


@pytest.mark.parametrize(("value", "code"), [(9, "data.unnamed_mask_values"), (0, "data.no_objects")])
def test_the_classes_of_other_values_are_not_guessed(mask_folder: Path, value: int, code: str) -> None:
    for file in (mask_folder / "masks").iterdir():
        save_mask(file, np.full((30, 40), value) if value == 0 or file.stem == "2" else np.array(Image.open(file)))
    with refused(code):
        set_up(MaskFolder(str(mask_folder)))


def test_a_missing_mask_folder_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "1.png")
    with refused("data.missing_folder"):
        set_up(MaskFolder(str(tmp_path)))


@pytest.mark.parametrize(
    ("orientation", "frame"),
    # A rotation by 180 degrees preserves the size, so that a mask of that size can only be taken as upright.
    [(1, "upright"), (3, "upright"), (6, "upright"), (8, "upright"), (6, "stored"), (8, "stored")],
)
def test_masks_follow_the_exif_orientation(tmp_path: Path, orientation: int, frame: str) -> None:
    array = np.zeros((24, 40), np.uint8)
    array[3:9, 5:17] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {1: array, 3: array[::-1, ::-1], 6: np.rot90(array, -1), 8: np.rot90(array)}[orientation]
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.fromarray(array).save(tmp_path / "images" / f"{i}.jpg", exif=exif, quality=95)
        save_mask(tmp_path / "masks" / f"{i}.png", upright if frame == "upright" else array)
    image, mask = set_up(MaskFolder(str(tmp_path), values=VALUES)).datasets["train"].sample(0)
    assert ((image[0] > 127).to(torch.uint8) == mask).float().mean() > 0.99


def test_membrane(real: Path) -> None:
    data = set_up(MaskFolder(str(real / "membrane"), values={0: "membrane", 255: "background"}))
    assert split_sizes(data) == {"train": 24, "val": 6}
    share = torch.stack([data.datasets["train"].sample(i)[1].float().mean() for i in range(24)]).mean()
    assert 0.18 < share < 0.26


@pytest.fixture
def color_masks(tmp_path: Path) -> Path:
    for i in range(4):
        write_image(tmp_path / "images" / f"{i}.png", (40, 30))
        array = np.zeros((30, 40, 3), np.uint8)
        array[5:15, 5:15] = (255, 0, 0)
        array[20:, 20:] = (0, 128, 255)
        save_mask(tmp_path / "masks" / f"{i}_mask.png", array)
    Image.fromarray(array).quantize(4).save(tmp_path / "masks" / "0_mask.png")
    return tmp_path


@pytest.mark.parametrize("colors", [("0-0-0", "255-0-0", "0-128-255"), ("#000000", "#ff0000", "#0080ff")])
def test_colors_as_classes(color_masks: Path, colors: tuple[str, ...]) -> None:
    values = dict(zip(colors, ("background", "road", "water"), strict=True))
    for items in set_up(MaskFolder(str(color_masks), values=values)).datasets.values():
        mask = items.sample(0)[1]
        assert (mask[5:15, 5:15] == 1).all()
        assert (mask[20:, 20:] == 2).all()
        assert (mask == 0).sum() == 1200 - 100 - 200


@pytest.mark.parametrize(
    ("value", "code"),
    [("0-0-0", "data.unknown_mask_value"), (0, "data.mixed_values"), ("0-0", "data.invalid_mask_value")],
)
def test_invalid_colors_are_refused(color_masks: Path, value: int | str, code: str) -> None:
    with refused(code):
        set_up(MaskFolder(str(color_masks), values={value: "background", "255-0-0": "road"}))


def test_one_mask_per_object(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(3):
            folder = tmp_path / split / f"id{i}"
            write_image(folder / "images" / f"id{i}.png", (40, 30))
            for k in range(3):
                array = np.zeros((30, 40))
                array[2 + 8 * k : 8 + 8 * k, 5:15] = 255
                save_mask(folder / "masks" / f"{k}.png", array)
    data = set_up(MaskFolder(str(tmp_path)))
    assert split_sizes(data) == {"train": 3, "val": 3}
    assert data.spec.class_names == ("background", "object")
    assert data.datasets["train"].sample(0)[1].sum() == 3 * 6 * 10
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    with refused("data.count_mismatch"):
        set_up(MaskFolder(str(tmp_path)))


@pytest.mark.slow
def test_nuclei_have_one_mask_per_object(real: Path) -> None:
    assert split_sizes(set_up(MaskFolder(str(real / "nuclei_fluo")))) == {"train": 60, "val": 12}


@pytest.mark.parametrize("values", [None, VALUES])
def test_jpeg_compression_is_named_as_the_cause(mask_folder: Path, values: dict | None) -> None:
    for file in (mask_folder / "masks").glob("*.png"):
        Image.open(file).save(file.with_suffix(".jpg"), quality=60)
        file.unlink()
    with refused("data.unknown_mask_value" if values else "data.unnamed_mask_values") as error:
        set_up(MaskFolder(str(mask_folder), values=values))
    assert "JPEG" in str(error.value)
