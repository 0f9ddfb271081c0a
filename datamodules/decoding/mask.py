"""Mask files -> the values of their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.decoding.image import FORMATS, coded_errors
from foundation.structures import InputError


def read_mask(path: Path, colors: bool = False) -> Tensor:
    """Returns a mask's raw values as int32 (H, W).

    Grayscale values and palette indices are returned as they are; RGB with equal channels counts as grayscale. With `colors`, a value is a
    pixel's color, ``red * 65536 + green * 256 + blue``.

    Raises:
        InputError: If the file can't be read, or is a color image and `colors` is False.
    """
    with coded_errors(path), Image.open(path, formats=FORMATS) as image:
        ImageOps.exif_transpose(image, in_place=True)  # without it Pillow copies upright images too
        array = np.asarray(image.convert("RGB") if colors else image)
    if colors:
        return torch.from_numpy(array.astype(np.int32) @ np.array([65536, 256, 1], np.int32))
    if array.ndim == 3:
        visible = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
        if (visible != visible[..., :1]).any():
            remedy = "map its colors to classes, data.values='{0-0-0: background, 255-0-0: road}'"
            raise InputError("data.color_mask", f"{path} is a color image: {remedy}")
        array = visible[..., 0]
    return torch.from_numpy(array.astype(np.int32))
