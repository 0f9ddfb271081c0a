"""An item as members of a shard, and back: ``safetensors`` with the target, the name and, unless it is a PNG of its own, the input."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.decoding.item_codec import INPUT, decode_info, decode_parts, encode_parts
from foundation.structures import Sample, Spec
from foundation.targets.base import TargetKind

Members = dict[str, bytes]
"""Contents by suffix: ``safetensors``, and ``png`` for an input that is stored as one."""


def encode(sample: Sample, kind: TargetKind, info: Mapping[str, str], png: bool = False) -> Members:
    """Returns the members of an item.

    Args:
        sample: Input and target; both keep their types.
        kind: The kind of the target.
        info: Texts such as ``name`` and ``group``.
        png: Whether 8-bit grayscale and RGB images become PNG.
    """
    signal, target = sample
    parts = kind.encode(target)
    if png and signal.ndim == 3 and signal.shape[0] in (1, 3) and signal.dtype == torch.uint8:
        return {"safetensors": encode_parts(parts, info), "png": encode_png(signal)}
    return {"safetensors": encode_parts({INPUT: signal, **parts}, info)}


def decode(members: Mapping[str, memoryview], kind: TargetKind) -> Sample:
    """Reverses `encode`.

    Raises:
        ValueError, KeyError: If a member is missing or invalid.
    """
    parts = decode_parts(members["safetensors"])
    signal = decode_png(members["png"]) if "png" in members else parts.pop(INPUT)
    return signal, kind.decode(parts)


def read_name(members: Mapping[str, memoryview]) -> str:
    """Returns the name that an item was packed with, ``""`` if it has none."""
    try:
        return decode_info(members["safetensors"]).get("name", "")
    except (ValueError, KeyError):
        return ""


def encode_png(image: Tensor) -> bytes:
    """`image` is uint8 (1 or 3, H, W)."""
    stream = io.BytesIO()
    array = image.permute(1, 2, 0).numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def decode_png(content: memoryview) -> Tensor:
    """Reverses `encode_png`.

    Raises:
        ValueError: If it is not such a PNG, or has more pixels than Pillow considers safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns about too many pixels
            array = read_png(content)
    except (OSError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise ValueError(f"its PNG can't be read ({error})") from error
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1).contiguous()


def read_png(content: memoryview) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if image.mode not in ("L", "RGB"):
            raise ValueError(f"a PNG of mode {image.mode}: L and RGB are read")
        return np.array(image)


def check_sample(sample: Sample, spec: Spec, kind: TargetKind) -> None:
    """Refuses what a task could not process.

    Raises:
        ValueError: If input or target does not have the shape, kind or range that `spec` promises.
    """
    signal, target = sample
    if signal.ndim != spec.ndim + 1 or signal.shape[0] != spec.channels:
        raise ValueError(f"an input {tuple(signal.shape)}: {spec.channels} channels over {spec.ndim} axes are promised")
    if not kind.is_valid(target, spec.num_classes, tuple(signal.shape[1:])):
        raise ValueError(f"its target is not {spec.target} of {spec.num_classes} classes")
