"""Image files -> tensors, upright, with the requested number of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from imagecodecs import png_decode
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.decoding.exif import TRANSPOSED, Header, exif_transpose_array
from datamodules.decoding.resize import ResizeGeometry, resize_geometry, resize_image
from datamodules.decoding.tiff import decode_high_bit_depth, read_header_high_bit_depth
from foundation.structures import InputError, first_line

TIFF = {".tif", ".tiff"}
GRAYSCALE = {"1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
HIGH_BIT_DEPTH = {"I": 16, "F": 32, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16}
"""Bits per sample of Pillow's modes with more than 8."""

ORIENTATION = 0x0112
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
"""Formats that are opened, whatever the suffix is. Pillow has more, and starts another program for some of them (EPS)."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MARGIN = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its sides if that leaves this many times the required pixels on either side.

Measured on synthetic images of 12 megapixels, resized to 224 to 640 pixels, against the whole image resized with the same filter: 2 differs
by 0.17 to 0.31 of 255 on average and takes a quarter of the time, 1 differs by 0.34 to 0.62 and saves little more, 3 takes up to three times as long.
"""

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Of ImageNet, in 0..255, which published weights were trained with."""


def normalization_stats(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation per channel for images of `channels` channels, in 0..255."""
    if channels == 3:
        return MEAN, STD
    return (sum(MEAN) / 3,) * channels, (sum(STD) / 3,) * channels


def read_image(path: Path, channels: int, window: Sequence[float] = ()) -> Tensor:
    """Returns an image as uint8 (channels, H, W), upright by its EXIF orientation; the first of several pages.

    Args:
        channels: 1 (grayscale), 3 (RGB; an alpha channel is dropped), or the number that the file has.
        window: The values that become 0 and 255 if samples have more than 8 bits; empty for 16 bits, or 0..1 for floating point.

    Raises:
        InputError: If the file is missing, truncated or not an image, or has other channels.
    """
    return read_resized(path, channels, window, (), "none")[0]


def read_resized(
    path: Path, channels: int, window: Sequence[float], size: tuple[int, ...], resize: str
) -> tuple[Tensor, ResizeGeometry]:
    """Returns an image as `read_image` does, resized as in `resize_geometry`, and how it was resized.

    A large JPEG is decoded at a fraction of its size. Training and prediction both read images here, so they see the same pixels.
    """
    with coded_errors(path):
        array, (height, width) = decode(path, channels, (size, resize))
    if array.dtype != np.uint8:
        array = apply_window(array, window or (0.0, 1.0 if array.dtype.kind == "f" else 65535.0))
    array = convert_channels(array, channels)
    if (found := array.shape[2]) != channels:
        text = f"{path} has {found} channels, {channels} are expected: remove it, or set data.channels"
        raise InputError("data.channels_mismatch", text)
    geometry = resize_geometry(height, width, size, resize)
    array = array if array.flags.writeable else array.copy()
    view = torch.from_numpy(array).permute(2, 0, 1)  # channels last in memory: resized more than twice as fast
    return resize_image(view, geometry, size).contiguous(), geometry


def convert_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """(H, W) or (H, W, C) -> (H, W, channels) between grayscale, RGB and RGBA; others are returned unchanged."""
    array = array[..., None] if array.ndim == 2 else array
    found = array.shape[2]
    if found == 1 and channels == 3:
        return array.repeat(3, axis=2)
    if found == 4 and channels in (1, 3):
        array = array[..., :3]
    if found in (3, 4) and channels == 1:
        array = (array @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    return array


@contextmanager
def coded_errors(path: Path) -> Iterator[None]:
    """Turns what the decoders raise into an InputError that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow, tifffile and struct raise a dozen types; all mean that the file can't be read
        text = f"{path} can't be read as an image ({first_line(error)}): repair or remove it"
        raise InputError("data.unreadable_image", text) from error


def decode(
    path: Path, channels: int, wanted: tuple[tuple[int, ...], str] = ((), "none")
) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns an upright image (H, W) or (H, W, C), uint8 or as deep as it is stored, and the file's upright height and width.

    `wanted` are size and kind of resizing, as in `resize_geometry`: a JPEG that is much larger is decoded at a fraction of its size.
    """
    if path.suffix.lower() in TIFF and (array := decode_high_bit_depth(path, channels)) is not None:
        return array, array.shape[:2]
    with Image.open(path, formats=FORMATS) as image:
        if colors := high_bit_depth_channels(image, path):
            array = png_decode(path.read_bytes())
            array = exif_transpose_array(array if colors == 3 else array[..., :1], image.getexif().get(ORIENTATION, 1))
            return array, array.shape[:2]
        size = draft(image, *wanted)
        array = to_array(image, channels)
        return array, size or array.shape[:2]


def draft(image: Image.Image, size: tuple[int, ...], resize: str) -> tuple[int, int] | None:
    """Makes Pillow decode a JPEG at a fraction of its size if `size` is smaller; returns its upright height and width, None for other formats."""
    if image.format not in ("JPEG", "MPO"):
        return None
    transposed = image.getexif().get(ORIENTATION, 1) in TRANSPOSED
    height, width = image.size if transposed else image.size[::-1]
    needed = [MARGIN * side for side in resize_geometry(height, width, size, resize).scaled]
    image.draft(None, (needed[0], needed[1]) if transposed else (needed[1], needed[0]))
    return height, width


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """Returns an opened image, upright, as grayscale (H, W) or RGB (H, W, 3), or its samples of more than 8 bits."""
    ImageOps.exif_transpose(image, in_place=True)  # without it Pillow copies upright images too
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct conversion to grayscale
    mode = "L" if channels == 1 else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def high_bit_depth_channels(image: Image.Image, path: Path) -> int:
    """Returns 3 for a color PNG with 16 bits per sample, 1 for grayscale with alpha, of which Pillow would read the upper 8; else 0."""
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA", "LA"):
        return 0
    with path.open("rb") as file:
        depth, kind = file.read(26)[24:]  # both are in the first chunk; kind 4 is grayscale with alpha
    return (1 if kind == 4 else 3) if depth == 16 else 0


def apply_window(array: np.ndarray, window: Sequence[float]) -> np.ndarray:
    """Converts samples to uint8: ``window[0]`` and below become 0, ``window[1]`` and above 255."""
    low, high = window
    scaled = (array.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def value_range(path: Path) -> tuple[float, float] | None:
    """Returns the lowest and the highest sample of an image with more than 8 bits; None if it can't be read or has 8."""
    try:
        with coded_errors(path):
            array, _ = decode(path, 1)
    except InputError:
        return None
    finite = array[np.isfinite(array)]
    return None if array.dtype == np.uint8 or not finite.size else (float(finite.min()), float(finite.max()))


def read_header(path: Path) -> Header:
    """Returns size, orientation, channels and depth without decoding.

    Raises:
        InputError: If the file is missing or not an image.
    """
    with coded_errors(path):
        if path.suffix.lower() in TIFF and (header := read_header_high_bit_depth(path)):
            return header
        with Image.open(path, formats=FORMATS) as image:
            orientation, colors = image.getexif().get(ORIENTATION, 1), high_bit_depth_channels(image, path)
            return Header(
                *image.size,
                orientation=orientation if orientation in range(1, 9) else 1,
                channels=colors or (1 if image.mode in GRAYSCALE else 3),
                bits=16 if colors else HIGH_BIT_DEPTH.get(image.mode, 8),
                pages=getattr(image, "n_frames", 1),
            )
