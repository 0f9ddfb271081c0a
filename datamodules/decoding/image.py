"""From an image file to a tensor, upright, with as many channels as are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from imagecodecs import png_decode
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.decoding.exif import Header, upright_array
from datamodules.decoding.resize import Placement, apply, place
from datamodules.decoding.tiff import decode_deep, deep_header
from foundation.structures import InputError, first_line

TIFF = {".tif", ".tiff"}
GREY = {"1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
DEEP = {"I": 16, "F": 32, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16}  # bits a sample by Pillow's mode
KINDS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
"""What is opened, whatever the suffix says. Pillow knows more, and starts another program for some of it (EPS)."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MARGIN = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its sides where that leaves this many times the pixels that are needed, on either side.

Measured on drawn pictures of 12 megapixels, brought to 224 to 640 pixels, against the whole picture resized with the same filter: 2 differs
by 0.17 to 0.31 of 255 in the mean and takes a quarter of the time, 1 differs by 0.34 to 0.62 and saves little more, 3 takes up to three times as long.
"""

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, in 0..255; what published weights were trained with
STD = (58.395, 57.12, 57.375)


def statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel for images of `channels` channels, in 0..255."""
    if channels == 3:
        return MEAN, STD
    return (sum(MEAN) / 3,) * channels, (sum(STD) / 3,) * channels


def unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} can't be read as an image ({first_line(error)}): mend or remove it")


def read_image(path: Path, channels: int, window: Sequence[float] = ()) -> Tensor:
    """An image as uint8 (channels, H, W), upright by its EXIF orientation; of several pages the first.

    Args:
        path: The file.
        channels: 1 (grey), 3 (RGB; an alpha channel is left out), or as many as the file has.
        window: The values that become 0 and 255 where samples have more than 8 bits; empty for all that their type can hold.

    Raises:
        InputError: If the file is missing, cut short or no image, or has another number of channels.
    """
    return torch.from_numpy(read_array(path, channels, window)[0].transpose(2, 0, 1).copy())


def read_placed(
    path: Path, channels: int, window: Sequence[float], size: tuple[int, ...], resize: str
) -> tuple[Tensor, Placement]:
    """An image as `read_image` gives it, at its final size, and how it got there from the size that the file has.

    A large JPEG is decoded at a fraction of its size. Whoever trains and whoever predicts opens images here, so both see the same.

    Args:
        path: The file.
        channels: As in `read_image`.
        window: As in `read_image`.
        size: Height and width that are asked for; empty for the file's own.
        resize: How, as in `place`.

    Raises:
        InputError: As `read_image` does.
    """
    array, (height, width) = read_array(path, channels, window, (size, resize))
    placement = place(height, width, size, resize)
    array = array if array.flags.writeable else array.copy()
    view = torch.from_numpy(array).permute(2, 0, 1)  # colours stay side by side: resized more than twice as fast
    return apply(view, placement, size).contiguous(), placement


def read_array(
    path: Path, channels: int, window: Sequence[float], wanted: tuple[tuple[int, ...], str] = ((), "none")
) -> tuple[np.ndarray, tuple[int, int]]:
    """An image as uint8 (H, W, channels), perhaps smaller than the file's as far as `wanted` allows, and the file's upright sides."""
    with refusing(path):
        array, sides = decode(path, channels, wanted)
    if array.dtype != np.uint8:
        array = to_window(array, window or full_range(array.dtype))
    array = to_channels(array, channels)
    if array.shape[2] != channels:
        raise InputError(
            f"{path} has {array.shape[2]} channels, {channels} are expected: leave it out, or say data.channels"
        )
    return array, sides


def to_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """(H, W) or (H, W, C) as (H, W, channels) between grey, RGB and RGBA; anything else stays as it is."""
    array = array[..., None] if array.ndim == 2 else array
    own = array.shape[2]
    if own == 1 and channels == 3:
        return array.repeat(3, axis=2)
    if own == 4 and channels in (1, 3):
        array = array[..., :3]
    if own in (3, 4) and channels == 1:
        array = (array @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    return array


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn what the decoders raise into one message that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow, tifffile and struct raise a dozen kinds; all mean that this can't be read
        raise unreadable(path, error) from error


def decode(
    path: Path, channels: int, wanted: tuple[tuple[int, ...], str] = ((), "none")
) -> tuple[np.ndarray, tuple[int, int]]:
    """An upright image (H, W) or (H, W, C), and the file's upright height and width.

    It is uint8, or as deep as it is stored where there is a way to keep that. A JPEG may be smaller than the file says, where less is `wanted`:
    the size and the kind of resizing, as `place` takes them.
    """
    if path.suffix.lower() in TIFF and (array := decode_deep(path, channels)) is not None:
        return array, array.shape[:2]
    with Image.open(path, formats=KINDS) as image:
        if colours := deep_colour(image, path):
            array = png_decode(path.read_bytes())
            array = upright_array(array if colours == 3 else array[..., :1], image.getexif().get(0x0112, 1))
            return array, array.shape[:2]
        sides = shrink(image, *wanted)
        array = shown(image, channels)
        return array, sides or array.shape[:2]


def shrink(image: Image.Image, size: tuple[int, ...], resize: str) -> tuple[int, int] | None:
    """Let a JPEG be decoded smaller, by its cosine coefficients, where `size` is less; its upright height and width, if it is one."""
    if image.format not in ("JPEG", "MPO"):
        return None
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    height, width = image.size if turned else image.size[::-1]
    needed = [MARGIN * side for side in place(height, width, size, resize).scaled]
    image.draft(None, (needed[0], needed[1]) if turned else (needed[1], needed[0]))
    return height, width


def shown(image: Image.Image, channels: int) -> np.ndarray:
    """An opened image, upright, as grey (H, W) or RGB (H, W, 3), or its deep samples."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I") or turned.mode == "F":
        return np.asarray(turned)
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")
    if turned.mode == "LAB":
        turned = turned.convert("RGB")  # there is no direct way to grey
    return np.asarray(turned.convert("L" if channels == 1 else "RGB"))


def deep_colour(image: Image.Image, path: Path) -> int:
    """3 for a PNG file with 16 bits a sample in colour, 1 for grey with alpha, of which Pillow would keep the upper 8; else 0."""
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA", "LA"):
        return 0
    with path.open("rb") as file:
        depth, kind = file.read(26)[24:]  # both stand in the first block; kind 4 is grey with alpha
    return (1 if kind == 4 else 3) if depth == 16 else 0


def full_range(dtype: np.dtype) -> tuple[float, float]:
    """What samples of more than 8 bits are taken to lie in where nothing was said: 16 bits, or 0..1 for fractions."""
    return (0.0, 1.0) if dtype.kind == "f" else (0.0, 65535.0)


def to_window(array: np.ndarray, window: Sequence[float]) -> np.ndarray:
    """Samples as uint8: ``window[0]`` and below become 0, ``window[1]`` and above 255."""
    low, high = window
    scaled = (array.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def extremes(path: Path) -> tuple[float, float] | None:
    """The lowest and the highest sample of an image with more than 8 bits; None where it can't be read or has 8."""
    try:
        with refusing(path):
            array, _ = decode(path, 1)
    except InputError:
        return None
    finite = array[np.isfinite(array)]
    return None if array.dtype == np.uint8 or not finite.size else (float(finite.min()), float(finite.max()))


def read_mask(path: Path, colours: bool = False) -> Tensor:
    """A mask's raw values as int32 (H, W).

    Grey values and palette indices stay as they are; RGB where all channels agree is taken as grey. With `colours` a pixel is
    its colour, ``red * 65536 + green * 256 + blue``.

    Raises:
        InputError: If the file can't be read, or is a colour picture and `colours` is not asked for.
    """
    with refusing(path), Image.open(path, formats=KINDS) as image:
        turned = ImageOps.exif_transpose(image)
        array = np.asarray(turned.convert("RGB") if colours else turned)
    if colours:
        return torch.from_numpy(array.astype(np.int32) @ np.array([65536, 256, 1], np.int32))
    if array.ndim == 3:
        shown = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
        if (shown != shown[..., :1]).any():
            raise InputError(
                f"{path} is a colour picture: say what its colours mean, data.values='{{0-0-0: background, 255-0-0: road}}'"
            )
        array = shown[..., 0]
    return torch.from_numpy(array.astype(np.int32))


def read_header(path: Path) -> Header:
    """Size, orientation, channels and depth without decoding.

    Raises:
        InputError: If the file is missing or no image.
    """
    with refusing(path):
        if path.suffix.lower() in TIFF and (header := deep_header(path)):
            return header
        with Image.open(path, formats=KINDS) as image:
            turn, colours = image.getexif().get(0x0112, 1), deep_colour(image, path)
            return Header(
                *image.size,
                orientation=turn if turn in range(1, 9) else 1,
                channels=colours or (1 if image.mode in GREY else 3),
                bits=16 if colours else DEEP.get(image.mode, 8),
                pages=getattr(image, "n_frames", 1),
            )
