"""Items as bytes in the safetensors format, for the cache of decoded items and for shards. Nothing that is read can run code.

The library writes. Reading is done here: ``safetensors.torch.load`` copies every tensor twice, which takes 40 us for an image of 224 pixels, where
this takes 12, and it can't leave out the input where the target alone is needed.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save
from torch import Tensor

from foundation.structures import Sample
from foundation.targets.base import TargetKind

INPUT, PNG = "input", "png"
"""Names of the input: as a tensor, or as the bytes of a PNG file."""

METADATA = "__metadata__"
TYPES = {
    "BOOL": np.dtype(bool), "U8": np.dtype(np.uint8), "I16": np.dtype(np.int16), "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64), "F32": np.dtype(np.float32), "F64": np.dtype(np.float64),
}  # fmt: skip
"""What items are made of, by the names of safetensors."""

MAX_HEADER_BYTES = 1 << 20
"""Bytes of a header above which it is not parsed; an item's has a few hundred."""

MALFORMED = (KeyError, TypeError, AttributeError, RecursionError)
"""What an unexpected structure of a header raises."""


def encode_parts(parts: Mapping[str, Tensor | int], info: Mapping[str, str] | None = None) -> bytes:
    """Returns tensors and integers by name, and texts by name, as bytes. The same values give the same bytes.

    Raises:
        TypeError: If a tensor is of a type that is not in `TYPES`.
    """
    arrays = {name: torch.as_tensor(part).contiguous().numpy() for name, part in parts.items()}
    for name, array in arrays.items():
        if array.dtype not in TYPES.values():
            raise TypeError(f"{name} is of type {array.dtype}, which is not stored")
    # One entry: safetensors writes several in random order.
    return save(arrays, {"info": json.dumps(info)} if info else None)


def decode_parts(content: memoryview, skip: Collection[str] = ()) -> dict[str, Any]:
    """Reverses `encode_parts`, without the parts in `skip`: copies of the tensors, those without axes as Python numbers.

    Raises:
        ValueError: If the header is invalid, or promises more than follows.
    """
    header = read_item_header(content)
    first = 8 + len(header)
    parts: dict[str, Any] = {}
    for name, dtype, shape, start in parse_header(header):
        if name not in skip:
            array = np.ndarray(shape, dtype, content, first + start)  # raises ValueError beyond the end
            parts[name] = torch.from_numpy(array.copy()) if shape else array.item()
    return parts


def decode_info(content: memoryview) -> dict[str, str]:
    """Returns the texts that were passed to `encode_parts`, without decoding tensors.

    Raises:
        ValueError: If there are none, or the header is invalid.
    """
    try:
        info = json.loads(json.loads(read_item_header(content))[METADATA]["info"])
        return {str(name): str(text) for name, text in info.items()}
    except MALFORMED as error:
        raise ValueError(f"a header without texts ({type(error).__name__})") from error


def read_item_header(content: memoryview) -> bytes:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(f"a header of {length} bytes in an item of {len(content)}")
    return bytes(content[8 : 8 + length])


@lru_cache(64)  # items of one shape have one header
def parse_header(header: bytes) -> list[tuple[str, np.dtype, tuple[int, ...], int]]:
    """Returns name, type, shape and first byte of every tensor. Source: the format's description at https://huggingface.co/docs/safetensors."""
    tensors = []
    try:
        for name, field in json.loads(header).items():
            if name == METADATA:
                continue
            dtype, shape, (start, end) = TYPES[field["dtype"]], tuple(field["shape"]), field["data_offsets"]
            valid = len(shape) <= 8 and all(type(number) is int and number >= 0 for number in (*shape, start, end))
            if not valid or math.prod(shape) * dtype.itemsize != end - start:
                raise ValueError(f"tensor {name[:40]!r} of shape {str(shape)[:40]} in {str(end - start)[:20]} bytes")
            tensors.append((name, dtype, shape, start))
    except MALFORMED as error:
        raise ValueError(f"an invalid header ({type(error).__name__})") from error
    return tensors


def encode_sample(sample: Sample, kind: TargetKind, info: Mapping[str, str] | None = None, png: bool = False) -> bytes:
    """Returns an input and its target as bytes, see `encode_parts`; with `png`, 8-bit grayscale and RGB images become PNG."""
    signal, target = sample
    if png and signal.ndim == 3 and signal.shape[0] in (1, 3) and signal.dtype == torch.uint8:
        return encode_parts({PNG: encode_png(signal), **kind.encode(target)}, info)
    return encode_parts({INPUT: signal, **kind.encode(target)}, info)


def decode_sample(content: memoryview, kind: TargetKind) -> Sample:
    """Reverses `encode_sample`.

    Raises:
        ValueError, KeyError, TypeError: If a part is missing or invalid.
    """
    parts = decode_parts(content)
    signal = parts.pop(INPUT, None)
    return decode_png(parts.pop(PNG)) if signal is None else signal, kind.decode(parts)


def decode_target(content: memoryview, kind: TargetKind) -> Any:
    """Returns the target alone, without copying the input."""
    return kind.decode(decode_parts(content, skip=(INPUT, PNG)))


def encode_png(image: Tensor) -> Tensor:
    """uint8 (1 or 3, H, W) -> the bytes of a PNG file, uint8 (length,)."""
    stream = io.BytesIO()
    array = image.permute(1, 2, 0).numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(stream, "PNG", compress_level=3)
    return torch.frombuffer(stream.getbuffer(), dtype=torch.uint8)


def decode_png(content: Tensor) -> Tensor:
    """Reverses `encode_png`.

    Raises:
        ValueError: If it is not such a PNG, or has more pixels than Pillow considers safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns about too many pixels
            image = Image.open(io.BytesIO(content.numpy().tobytes()), formats=["PNG"])
            array = np.array(image)
    except (OSError, SyntaxError, Warning, Image.DecompressionBombError, AttributeError) as error:
        raise ValueError(f"its PNG can't be read ({error})") from error
    if image.mode not in ("L", "RGB"):
        raise ValueError(f"a PNG of mode {image.mode}: L and RGB are read")
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1).contiguous()
