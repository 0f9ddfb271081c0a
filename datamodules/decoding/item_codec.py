"""Items as bytes in the safetensors format, for the cache of decoded items and for shards. Nothing that is read can run code.

The library writes. Reading is done here: ``safetensors.torch.load`` copies every tensor twice, which takes 40 us for an image of 224 pixels, where
this takes 12, and it can't leave out the input where the target alone is needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from foundation.structures import Sample
from foundation.targets.base import TargetKind

INPUT = "input"
METADATA = "__metadata__"
TYPES = {
    "BOOL": np.dtype(bool), "U8": np.dtype(np.uint8), "I16": np.dtype(np.int16), "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64), "F32": np.dtype(np.float32), "F64": np.dtype(np.float64),
}  # fmt: skip
"""What items are made of, by the names of safetensors."""

LARGEST_HEADER = 1 << 20
"""Bytes of a header above which it is not parsed; an item's has a few hundred."""

Layout = tuple[tuple[str, np.dtype, tuple[int, ...], int], ...]
"""Name, type, shape and first byte of every tensor."""


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
    """Reverses `encode_parts`: copies of the tensors, those without axes as Python numbers.

    Args:
        content: The bytes of one item.
        skip: Names of tensors to leave out.

    Raises:
        ValueError: If the header is invalid, or promises more than follows.
    """
    header = header_of(content)
    layout, first = layout_of(header), 8 + len(header)
    parts: dict[str, Any] = {}
    for name, dtype, shape, start in layout:
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
        info = json.loads(json.loads(header_of(content))[METADATA]["info"])
        return {str(name): str(text) for name, text in info.items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a header without texts ({type(error).__name__})") from error


def header_of(content: memoryview) -> bytes:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(LARGEST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes in an item of {len(content)}")
    return bytes(content[8 : 8 + length])


@lru_cache(64)  # items of one shape have one header
def layout_of(header: bytes) -> Layout:
    """Parses a header. Source: the format's description at https://huggingface.co/docs/safetensors."""
    try:
        return tuple(tensor_of(name, field) for name, field in json.loads(header).items() if name != METADATA)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"an invalid header ({type(error).__name__})") from error


def tensor_of(name: str, field: dict[str, Any]) -> tuple[str, np.dtype, tuple[int, ...], int]:
    dtype, shape, (start, end) = TYPES.get(field["dtype"]), tuple(field["shape"]), field["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    if dtype is None or not whole or len(shape) > 8 or size_in_bytes(shape, dtype) != end - start:
        raise ValueError(f"tensor {name[:40]!r} of type {str(field['dtype'])[:10]} and shape {str(shape)[:40]}")
    return name, dtype, shape, start


def size_in_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    size = dtype.itemsize
    for side in shape:
        size *= side
    return size


def encode_sample(sample: Sample, kind: TargetKind, info: Mapping[str, str] | None = None) -> bytes:
    """Returns an input and its target as bytes, see `encode_parts`."""
    return encode_parts({INPUT: sample[0], **kind.encode(sample[1])}, info)


def decode_sample(content: memoryview, kind: TargetKind) -> Sample:
    """Reverses `encode_sample`.

    Raises:
        ValueError, KeyError: If a part is missing or invalid.
    """
    parts = decode_parts(content)
    return parts.pop(INPUT), kind.decode(parts)


def decode_target(content: memoryview, kind: TargetKind) -> Any:
    """Returns the target alone, without copying the input."""
    return kind.decode(decode_parts(content, skip=(INPUT,)))
