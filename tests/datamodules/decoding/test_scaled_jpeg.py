"""A large JPEG is decoded near the required size: never below it, with nearly the same pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_files import write_voc_annotation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from refusals import refused
from torchvision.transforms.v2 import functional

from datamodules.decoding.image import MARGIN, decode, read_image, read_resized
from datamodules.decoding.resize import resize_geometry
from datamodules.formats.voc import Voc
from datamodules.predict_files import Files
from foundation.structures import Spec

TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""The inverse of what an EXIF orientation requires."""

sides = st.integers(1, 900)


def photo(path: Path, size: tuple[int, int], orientation: int = 1, mode: str = "RGB") -> Path:
    """A smooth image with some noise and a dark rectangle from a quarter to a half of its shown sides; `size` is width, height."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], 2) * 50 + 170
    noisy = waves + np.random.default_rng(0).normal(0, 8, waves.shape)
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((width // 4, height // 4, width // 2 - 1, height // 2 - 1), fill=(0, 0, 0))
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, quality=92, exif=exif)
    return path


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=sides,
    height=sides,
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    resize=st.sampled_from(["crop", "inside", "stretch", "none"]),
    orientation=st.integers(1, 8),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
)
def test_never_smaller_than_needed(tmp_path_factory, width, height, size, resize, orientation, mode) -> None:
    path = tmp_path_factory.mktemp("drawn") / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new(mode, (width, height)).save(path, exif=exif)
    array, own = decode(path, 3, (size, resize))
    assert own == ((width, height) if orientation >= 5 else (height, width))
    needed = resize_geometry(*own, size, resize).scaled
    for found, whole, least in zip(array.shape, own, needed, strict=False):
        assert found == whole or found >= MARGIN * least
    image, placement = read_resized(path, 3, (), size, resize)
    assert (placement.height, placement.width) == own
    assert tuple(image.shape[1:]) == (size if resize in ("crop", "stretch") else needed)
    assert image.is_contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("resize", ["crop", "inside", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_nearly_the_pixels_of_the_whole_file(tmp_path: Path, orientation: int, resize: str, channels: int) -> None:
    path = photo(tmp_path / "a.jpg", (1600, 1200), orientation)
    array, _ = decode(path, channels, ((128, 128), resize))
    assert array.shape[0] < 1200  # else nothing is tested
    image, placement = read_resized(path, channels, (), (128, 128), resize)
    whole = functional.resize(read_image(path, channels), list(placement.scaled), antialias=True)
    whole = whole[:, -placement.top :, -placement.left :][:, : image.shape[1], : image.shape[2]]
    assert (image.float() - whole.float()).abs().mean() < 1


def test_small_and_unscaled_images_are_decoded_in_full(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (1600, 1200))
    assert torch.equal(read_resized(path, 3, (), (), "none")[0], read_image(path, 3))
    small = photo(tmp_path / "b.jpg", (320, 240))
    expected = functional.resize(read_image(small, 3), [128, 128], antialias=True)
    assert torch.equal(read_resized(small, 3, (), (128, 128), "stretch")[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_stay_on_their_rectangle(tmp_path: Path, orientation: int) -> None:
    for i in range(6):
        path = photo(tmp_path / "JPEGImages" / f"{i}.jpg", (2003, 1501), orientation)
        write_voc_annotation(tmp_path, str(i), [("box", 500, 375, 1001, 750)], (2003, 1501))
    data = Voc(str(tmp_path), size=200)
    data.setup_splits(["train", "val", "test"], ["train"])
    image, target = data.datasets["train"].sample(0)
    assert image.shape[2] == 200
    assert decode(path, 3, ((200, 200), "inside"))[0].shape[1] < 2003
    dark = (image.float().mean(0) < 70).nonzero()
    found = torch.cat([dark.amin(0).flip(0), dark.amax(0).flip(0) + 1]).float()
    assert (found - target["boxes"][0]).abs().max() <= 1
    _, placement = data.open(path)
    assert (placement.boxes_back(target["boxes"]) - torch.tensor([500.0, 375, 1001, 750])).abs().max() < 1e-3


def test_prediction_reads_the_pixels_of_training(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (1600, 1200), 6)
    spec = Spec(2, 3, ("a", "b"), size=(96, 96), resize="crop")
    image, placement = Files(str(path), spec, 1).open(path)
    expected, same = read_resized(path, 3, (), (96, 96), "crop")
    assert torch.equal(image, expected)
    assert placement == same


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (1600, 1200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (lambda: read_image(path, 3), lambda: read_resized(path, 3, (), (96, 96), "crop")):
        with refused("data.unreadable_image"):
            read()
