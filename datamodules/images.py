"""From an image file to a tensor, and from a tensor to the size that is asked for, with what is needed to go back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from structures import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MEAN = (123.675, 116.28, 103.53)  # of ImageNet, in 0..255; what published weights were trained with
STD = (58.395, 57.12, 57.375)


def find_images(folder: Path) -> list[Path]:
    """All image files below `folder`, sorted; hidden files are left out."""
    paths = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in paths if p.is_file())


def statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel for images of `channels` channels, in 0..255."""
    if channels == 3:
        return MEAN, STD
    return (sum(MEAN) / 3,) * channels, (sum(STD) / 3,) * channels


def unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return InputError(f"{path} can't be read as an image ({reason}): mend or remove it")


def read_image(path: Path, channels: int) -> Tensor:
    """An image as uint8 (channels, H, W), upright by its EXIF orientation. `channels` is 1 (grey) or 3 (RGB).

    Raises:
        InputError: If the file is missing, cut short or no image.
    """
    try:
        with Image.open(path) as image:
            array = np.array(to_mode(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error
    tensor = torch.from_numpy(array)
    return tensor.unsqueeze(0) if channels == 1 else tensor.permute(2, 0, 1)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """`image` as L or RGB with 8 bits a sample; 16-bit samples keep their upper 8 bits."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.uint32).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def read_mask(path: Path) -> Tensor:
    """A mask's raw values as int32 (H, W): palette indices stay indices; RGB where all channels agree is taken as grey.

    Raises:
        InputError: If the file can't be read, or is a colour picture.
    """
    try:
        with Image.open(path) as image:
            array = np.array(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error
    if array.ndim == 3:
        colours = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
        if (colours != colours[..., :1]).any():
            raise InputError(f"{path} is a colour picture: a mask has one number a pixel (grey or palette)")
        array = colours[..., 0]
    return torch.from_numpy(array.astype(np.int32))


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say: stored width and height, EXIF orientation (1 to 8), whether it is grey."""

    width: int
    height: int
    orientation: int
    grey: bool

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width once upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(path: Path) -> Header:
    """Size, orientation and colour without decoding.

    Raises:
        InputError: If the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            turn = image.getexif().get(0x0112, 1)
            return Header(
                *image.size, turn if turn in range(1, 9) else 1, image.mode in ("1", "L", "LA", "I", "I;16", "F")
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error


def upright(mask: Tensor, orientation: int) -> Tensor:
    """Turn a stored picture (..., H, W) the way its EXIF orientation (1 to 8) asks for."""
    if orientation in (5, 6, 7, 8):
        mask = mask.transpose(-1, -2)
    if orientation in (2, 3, 6, 7):
        mask = mask.flip(-1)
    if orientation in (3, 4, 7, 8):
        mask = mask.flip(-2)
    return mask


def upright_boxes(boxes: Tensor, header: Header) -> Tensor:
    """Boxes (K, 4), x1, y1, x2, y2 in the stored picture's pixels, in the upright picture's."""
    x1, y1, x2, y2 = boxes.unbind(1)
    if header.orientation in (5, 6, 7, 8):
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = header.shown
    if header.orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if header.orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)


@dataclass(frozen=True)
class Placement:
    """Where a picture of `height` x `width` pixels went: scaled to `scaled`, then moved by `left` and `top` (both <= 0)."""

    height: int
    width: int
    scaled: tuple[int, int]
    left: int = 0
    top: int = 0

    def factors(self) -> Tensor:
        x, y = self.scaled[1] / self.width, self.scaled[0] / self.height
        return torch.tensor([x, y, x, y])

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the original, in the new picture."""
        return boxes * self.factors() + torch.tensor([self.left, self.top, self.left, self.top])

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the new picture, in the original's pixels and inside it."""
        back = (boxes - torch.tensor([self.left, self.top, self.left, self.top])) / self.factors()
        return torch.stack(
            [side.clamp(0, most) for side, most in zip(back.unbind(1), (self.width, self.height) * 2, strict=True)], 1
        )

    def mask_back(self, mask: Tensor) -> Tensor:
        """A mask (H, W) of the new picture at the original's size."""
        if tuple(mask.shape) == (self.height, self.width):
            return mask
        return functional.resize(mask.unsqueeze(0), [self.height, self.width], InterpolationMode.NEAREST_EXACT)[0]


def place(height: int, width: int, size: tuple[int, ...], resize: str) -> Placement:
    """How a picture comes to `size`: ``none``, ``stretch``, ``crop`` (fill, cut the middle) or ``inside`` (longest side fits)."""
    if resize == "none" or not size:
        return Placement(height, width, (height, width))
    if resize == "stretch":
        return Placement(height, width, (size[0], size[1]))
    ratios = size[0] / height, size[1] / width
    scale = min(ratios) if resize == "inside" else max(ratios)
    scaled = max(1, round(height * scale)), max(1, round(width * scale))
    if resize == "inside":
        return Placement(height, width, scaled)
    return Placement(height, width, scaled, (size[1] - scaled[1]) // 2, (size[0] - scaled[0]) // 2)


def apply(image: Tensor, placement: Placement, size: tuple[int, ...], nearest: bool = False) -> Tensor:
    """Resize and crop (C, H, W) as `placement` says; `nearest` for masks."""
    mode = InterpolationMode.NEAREST_EXACT if nearest else InterpolationMode.BILINEAR
    if tuple(image.shape[1:]) != placement.scaled:
        image = functional.resize(image, list(placement.scaled), mode, antialias=not nearest)
    if placement.left or placement.top:
        top, left = -placement.top, -placement.left
        image = image[:, top : top + size[0], left : left + size[1]]
    return image
