"""Image files of every kind are decoded as they are meant."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from refusals import refused

from datamodules.decoding.image import read_header, read_image
from datamodules.decoding.mask import read_mask
from datamodules.formats.image_folder import ImageFolder

RAMP = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
COLORS = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=2)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_rgb(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, Image.fromarray(COLORS), **({"lossless": True} if name == "a.webp" else {}))
    assert torch.equal(read_image(path, 3), torch.from_numpy(COLORS).permute(2, 0, 1))
    assert (read_header(path).channels, read_header(path).bits) == (3, 8)


def test_grayscale_as_rgb_and_back(tmp_path: Path) -> None:
    path = save(tmp_path / "gray.png", Image.fromarray(RAMP))
    assert torch.equal(read_image(path, 3), torch.from_numpy(RAMP.copy()).expand(3, -1, -1))
    rgb = save(tmp_path / "rgb.png", Image.fromarray(RAMP).convert("RGB"))
    assert torch.equal(read_image(rgb, 1)[0], torch.from_numpy(RAMP.copy()))


def test_palette_alpha_and_one_bit(tmp_path: Path) -> None:
    palette = save(tmp_path / "p.png", Image.fromarray(COLORS).quantize(200))
    assert (read_image(palette, 3).int() - torch.from_numpy(COLORS).permute(2, 0, 1).int()).abs().float().mean() < 12
    alpha = save(tmp_path / "a.png", Image.fromarray(np.dstack([COLORS, RAMP])))
    assert torch.equal(read_image(alpha, 3), torch.from_numpy(COLORS).permute(2, 0, 1))
    bit = save(tmp_path / "b.png", Image.fromarray(RAMP > 100))
    assert read_image(bit, 1).unique().tolist() == [0, 255]


def test_cmyk(tmp_path: Path) -> None:
    path = save(tmp_path / "c.jpg", Image.fromarray(COLORS).convert("CMYK"), quality=95)
    assert (read_image(path, 3).int() - torch.from_numpy(COLORS).permute(2, 0, 1).int()).abs().float().mean() < 6


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_through_a_window(tmp_path: Path, name: str) -> None:
    deep = (RAMP.astype(np.uint16) * 10) + 300
    path = save(tmp_path / name, Image.fromarray(deep))
    assert read_header(path).bits == 16
    assert torch.equal(read_image(path, 1, (300, 2850))[0], torch.from_numpy(RAMP.copy()))
    assert read_image(path, 1, (1000, 2000))[0].unique()[[0, -1]].tolist() == [0, 255]
    assert read_image(path, 1).max() == round(2850 / 65535 * 255)  # the default: the range of 16 bits


def test_the_window_of_a_set_is_its_range(tmp_path: Path) -> None:
    for i in range(8):
        folder = tmp_path / ("low", "high")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((12, 12), 200 + 500 * (i % 2) + i, np.uint16)).save(folder / f"{i}.png")
    data = ImageFolder(str(tmp_path))
    data.setup("fit")
    assert data.spec.window == (200.0, 707.0)
    assert any("more than 8 bits; values 200 to 707" in note for note in data.notes)
    given = ImageFolder(str(tmp_path), window=[0, 4095])
    given.setup("fit")
    assert given.spec.window == (0.0, 4095.0)
    with refused("config.out_of_range"):
        ImageFolder(str(tmp_path), window=[5, 5])


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_of_many_channels(tmp_path: Path, layout: str, dtype: type) -> None:
    bands = np.stack([np.full((30, 40), i / 6 if dtype is np.float32 else 10 * i, dtype) for i in range(6)])
    stored = bands if layout == "separate" else np.moveaxis(bands, 0, 2)
    tifffile.imwrite(tmp_path / "m.tif", stored, photometric="minisblack", planarconfig=layout)
    header = read_header(tmp_path / "m.tif")
    assert (header.channels, header.width, header.height) == (6, 40, 30)
    image = read_image(tmp_path / "m.tif", 6, (0, 1) if dtype is np.float32 else (0, 255))
    wanted = [round(255 * i / 6) if dtype is np.float32 else 10 * i for i in range(6)]
    assert image[:, 0, 0].tolist() == wanted
    with refused("data.channels_mismatch"):
        read_image(tmp_path / "m.tif", 3)


@pytest.mark.parametrize("how", [{}, {"planarconfig": "separate"}], ids=["pages", "planes"])
def test_a_set_of_many_channels_trains_with_them(tmp_path: Path, how: dict) -> None:
    for i in range(8):
        folder = tmp_path / ("a", "b")[i % 2]
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"{i}.tif", np.full((5, 16, 16), 20 * i, np.uint8), photometric="minisblack", **how)
    data = ImageFolder(str(tmp_path), channels=5)
    data.setup("fit")
    assert data.spec.channels == 5
    assert next(iter(data.train_dataloader()))["input"].shape[1:] == (5, 16, 16)
    Image.fromarray(COLORS).save(tmp_path / "a" / "odd.png")
    with refused("data.mixed_channels|data.channels_mismatch|data.unusable_items"):
        ImageFolder(str(tmp_path), channels=None if how else 5).setup("fit")


def test_the_first_of_several_pages_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    path = save(tmp_path / "p.tif", pages[0], save_all=True, append_images=pages[1:])
    assert (read_image(path, 1) == 10).all()
    assert read_header(path).pages == 2
    gif = save(tmp_path / "p.gif", pages[0], save_all=True, append_images=pages[1:])
    assert (read_image(gif, 1) == 10).all()
    tifffile.imwrite(tmp_path / "deep.tif", np.stack([np.full((8, 8), v, np.uint16) for v in (1000, 9)]))
    assert (read_image(tmp_path / "deep.tif", 1, (0, 1000)) == 255).all()


@pytest.mark.parametrize("content", [b"", b"not an image", b"II*\x00"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("x.png", "x.tif"):
        (tmp_path / name).write_bytes(content)
        with refused("data.unreadable_image"):
            read_image(tmp_path / name, 3)
        with refused("data.unreadable_image"):
            read_header(tmp_path / name)


def test_a_color_mask(tmp_path: Path) -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    array[1, 2] = (255, 128, 1)
    path = save(tmp_path / "m.png", Image.fromarray(array))
    assert read_mask(path, colors=True).unique().tolist() == [0, 255 << 16 | 128 << 8 | 1]
    with refused("data.color_mask"):
        read_mask(path)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_in_color(tmp_path: Path, channels: int) -> None:
    """Pillow reads the upper 8 bits of these, which are nearly empty for a 12-bit camera."""
    deep = np.stack([RAMP.astype(np.uint16) * (i + 1) for i in range(channels)], axis=2)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    tifffile.imwrite(
        tmp_path / "a.tif", deep, photometric="rgb", extrasamples=["unassalpha"] if channels == 4 else None
    )
    for name in ("a.png", "a.tif"):
        header = read_header(tmp_path / name)
        assert (header.bits, header.channels) == (16, 3)
        image = read_image(tmp_path / name, 3, (0, 765))
        assert torch.equal(image, torch.from_numpy((deep[..., :3] / 3).round().astype(np.uint8)).permute(2, 0, 1))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_eight_bit_tiff_of_two_and_four_channels(tmp_path: Path, count: int, photometric: str) -> None:
    if photometric == "rgb" and count == 2:
        pytest.skip("RGB has three channels at least")
    bands = np.stack([np.full((6, 5), 40 * (i + 1), np.uint8) for i in range(count)], axis=2)
    extra = ["unspecified"] * (count - (3 if photometric == "rgb" else 1))
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric=photometric, planarconfig="contig", extrasamples=extra)
    assert read_header(tmp_path / "a.tif").channels == count
    assert read_image(tmp_path / "a.tif", count)[:, 0, 0].tolist() == [40 * (i + 1) for i in range(count)]


def test_three_grayscale_pages_are_not_colors(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200, 90)]
    path = save(tmp_path / "p.tif", pages[0], save_all=True, append_images=pages[1:])
    assert (read_image(path, 3) == 10).all()


def test_compressed_tiff(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 4096, (7, 12, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", bands, photometric="minisblack", planarconfig="separate", compression="lzw")
    assert torch.equal(
        read_image(tmp_path / "p.tif", 7, (0, 255)), torch.from_numpy(bands.clip(0, 255).astype(np.uint8))
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_grayscale_with_alpha(tmp_path: Path, channels: int) -> None:
    deep = (RAMP.astype(np.uint16) * 10) + 300
    path = tmp_path / "la.png"
    path.write_bytes(imagecodecs.png_encode(np.stack([deep, np.full_like(deep, 65535)], axis=2)))
    assert (read_header(path).channels, read_header(path).bits) == (1, 16)
    image = read_image(path, channels, (300, 2850))
    assert torch.equal(image, torch.from_numpy(RAMP.copy()).expand(channels, -1, -1))


def test_lab_as_grayscale(tmp_path: Path) -> None:
    path = save(tmp_path / "lab.tif", Image.fromarray(COLORS).convert("LAB"))
    assert read_image(path, 1).shape == (1, *RAMP.shape)
    assert (read_image(path, 3).float() - torch.from_numpy(COLORS).permute(2, 0, 1)).abs().mean() < 12


def test_pages_that_could_be_channels_are_noted(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        pages = np.random.default_rng(i).integers(0, 256, (5, 20, 20), dtype=np.uint8)
        tifffile.imwrite(tmp_path / "ab"[i % 2] / f"{i}.tif", pages, photometric="minisblack")
    for channels, noted in ((None, True), (5, False)):
        data = ImageFolder(str(tmp_path), channels=channels)
        data.setup("fit")
        assert ("(data.channels=5 reads them as channels)" in str(data.notes)) == noted
