"""Images with masks: values to classes, polarity, and what does not fit together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_files import write_image
from PIL import Image

from datamodules.formats.mask_folder import MaskFolder
from foundation.structures import IGNORE, InputError


def prepared(root: Path, **more: object) -> MaskFolder:
    data = MaskFolder(str(root), **more)
    data.setup("fit")
    return data


def save_mask(path: Path, array: np.ndarray, **more: object) -> None:
    Image.fromarray(array.astype(np.uint8)).save(path, **more)


def test_zero_and_255_are_guessed_and_said(mask_folder: Path) -> None:
    data = prepared(mask_folder)
    assert data.spec.class_names == ("background", "object")
    assert "mask value 0 is taken as background" in data.notes[0]
    image, mask = data.datasets["train"].sample(0)
    assert image.shape[1:] == mask.shape == (30, 40)
    assert mask.unique().tolist() == [0, 1]


def test_polarity(mask_folder: Path) -> None:
    usual, turned = (
        prepared(mask_folder, values=v) for v in ({0: "background", 255: "cell"}, {0: "cell", 255: "background"})
    )
    assert usual.spec.class_names == turned.spec.class_names == ("background", "cell")
    assert torch.equal(usual.datasets["train"].sample(0)[1], 1 - turned.datasets["train"].sample(0)[1])


def test_ignore(mask_folder: Path) -> None:
    data = prepared(mask_folder, values={0: "ground", 7: "tree", 255: "ignore"})
    assert data.spec.class_names == ("ground", "tree")
    assert set(data.datasets["train"].sample(0)[1].unique().tolist()) == {0, IGNORE}


def test_split_folders(mask_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split).mkdir(parents=True, exist_ok=True)
            (mask_folder / kind).rename(root / split / kind) if split == "train" else None
    for i in range(2):
        write_image(root / "val" / "images" / f"{i}.png", (40, 30))
        (root / "val" / "masks").mkdir(exist_ok=True)
        save_mask(root / "val" / "masks" / f"{i}.png", np.zeros((30, 40)))
    assert {name: len(items) for name, items in prepared(root).datasets.items()} == {"train": 6, "val": 2}


def test_a_mask_of_another_size(mask_folder: Path) -> None:
    save_mask(mask_folder / "masks" / "2.png", np.zeros((31, 40)))
    with pytest.raises(InputError, match=r"2\.png has 40x31 pixels, its image 2\.png has 40x30"):
        prepared(mask_folder)


def test_a_value_with_no_class(mask_folder: Path) -> None:
    save_mask(mask_folder / "masks" / "2.png", np.full((30, 40), 9))
    with pytest.raises(InputError, match=r"2\.png holds the values \[9\], which have no class"):
        prepared(mask_folder, values={0: "background", 255: "cell"})
    with pytest.raises(InputError, match=r"the masks hold the values \[0, 9, 255\]: say what they mean, data.values="):
        prepared(mask_folder)


@pytest.mark.parametrize(("kind", "said"), [("images", "has no image"), ("masks", "has no mask")])
def test_missing_pair(mask_folder: Path, kind: str, said: str) -> None:
    (mask_folder / kind / "3.png").unlink()
    with pytest.raises(InputError, match=said):
        prepared(mask_folder)


def test_a_broken_mask_and_a_coloured_one(mask_folder: Path) -> None:
    values = {0: "background", 255: "cell"}
    (mask_folder / "masks" / "3.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"3\.png can't be read"):
        prepared(mask_folder, values=values)
    write_image(mask_folder / "masks" / "3.png", (40, 30))
    with pytest.raises(InputError, match=r"3\.png is a color image"):
        prepared(mask_folder, values=values)


def test_no_mask_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "1.png")
    with pytest.raises(InputError, match="has no folder named masks or mask"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("orientation", "frame"),
    # A half turn keeps the size, so that a mask of it can only be taken as shown.
    [(1, "shown"), (3, "shown"), (6, "shown"), (8, "shown"), (6, "stored"), (8, "stored")],
)
def test_exif_keeps_image_and_mask_together(tmp_path: Path, orientation: int, frame: str) -> None:
    array = np.zeros((24, 40), np.uint8)
    array[3:9, 5:17] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {1: array, 3: array[::-1, ::-1], 6: np.rot90(array, -1), 8: np.rot90(array)}[orientation]
    for i in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(array).save(tmp_path / "images" / f"{i}.jpg", exif=exif, quality=95)
        save_mask(tmp_path / "masks" / f"{i}.png", turned if frame == "shown" else array)
    image, mask = prepared(tmp_path, values={0: "background", 255: "x"}).datasets["train"].sample(0)
    assert ((image[0] > 127).to(torch.uint8) == mask).float().mean() > 0.99


def test_membrane(real: Path) -> None:
    data = prepared(real / "membrane", values={0: "membrane", 255: "background"})
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 24, "val": 6}
    share = torch.stack([data.datasets["train"].sample(i)[1].float().mean() for i in range(24)]).mean()
    assert 0.18 < share < 0.26


def test_colours_as_classes(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / "images" / f"{i}.png", (40, 30))
        array = np.zeros((30, 40, 3), np.uint8)
        array[5:15, 5:15] = (255, 0, 0)
        array[20:, 20:] = (0, 128, 255)
        (tmp_path / "masks").mkdir(exist_ok=True)
        image = Image.fromarray(array)
        (image if i else image.quantize(4)).save(tmp_path / "masks" / f"{i}_mask.png")
    for values in (
        {"0-0-0": "background", "255-0-0": "road", "0-128-255": "water"},
        {"#000000": "background", "#ff0000": "road", "#0080ff": "water"},
    ):
        data = prepared(tmp_path, values=values)
        for items in data.datasets.values():
            mask = items.sample(0)[1]
            assert (mask[5:15, 5:15] == 1).all()
            assert (mask[20:, 20:] == 2).all()
            assert (mask == 0).sum() == 1200 - 100 - 200
    with pytest.raises(InputError, match="holds the values .'0-128-255'., which have no class"):
        prepared(tmp_path, values={"0-0-0": "background", "255-0-0": "road"})
    with pytest.raises(InputError, match="mixes numbers and colors"):
        prepared(tmp_path, values={0: "background", "255-0-0": "road"})
    with pytest.raises(InputError, match="neither a number nor a colour"):
        prepared(tmp_path, values={"0-0": "background", "255-0-0": "road"})


def test_one_file_an_object(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(3):
            write_image(tmp_path / split / f"id{i}" / "images" / f"id{i}.png", (40, 30))
            folder = tmp_path / split / f"id{i}" / "masks"
            folder.mkdir()
            for k in range(3):
                array = np.zeros((30, 40), np.uint8)
                array[2 + 8 * k : 8 + 8 * k, 5:15] = 255
                Image.fromarray(array).save(folder / f"{k}.png")
    data = prepared(tmp_path)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 3, "val": 3}
    assert data.spec.class_names == ("background", "object")
    assert data.datasets["train"].sample(0)[1].sum() == 3 * 6 * 10
    for mask in folder.iterdir():
        mask.unlink()
    with pytest.raises(InputError, match="has 1 images and 0 masks"):
        prepared(tmp_path)


@pytest.mark.slow
def test_a_mask_an_object_on_real_data(real: Path) -> None:
    data = prepared(real / "nuclei_fluo")
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 60, "val": 12}


def test_masks_without_any_object(mask_folder: Path) -> None:
    for file in (mask_folder / "masks").glob("*.png"):
        save_mask(file, np.zeros((30, 40)))
    with pytest.raises(InputError, match="all masks hold the value 0 alone, so there is no object"):
        prepared(mask_folder)


def test_jpeg_masks_are_named_as_the_cause(mask_folder: Path) -> None:
    for file in (mask_folder / "masks").glob("*.png"):
        Image.open(file).save(file.with_suffix(".jpg"), quality=60)
        file.unlink()
    for values in (None, {0: "background", 255: "object"}):
        with pytest.raises(InputError, match="JPEG is why: it changes values"):
            prepared(mask_folder, values=values)
