"""A file of decoded items: written once and whole, then mapped into memory by whoever wants them.

The items' bytes come first, then an index in JSON, then its length, its checksum and a mark. Plain values only: a stranger's file could
give wrong pictures, and no more. safetensors holds no several items of unequal structure with a checksum each, so this is our own.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from datamodules.base.dataset import Sample

MARK = b"resmet-1"
END = struct.Struct("<QI8s")
"""Length of the index, its CRC-32, the mark."""

SUFFIX = ".items"
PART = ".part"
TYPES = ("uint8", "int16", "int32", "int64", "float32", "float64", "bool")


class CacheFile:
    """Items by key, each compared with its checksum when a process reads it for the first time.

    Raises:
        OSError: If the file can't be opened.
        ValueError: If it is no such file, cut short, or its index is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.map: mmap.mmap | None = None
        self.seen: set[str] = set()
        self.damaged = False
        content = self.content()
        if len(content) < END.size:
            raise ValueError("it is cut short")
        length, checksum, mark = END.unpack(content[-END.size :])
        self.size = len(content)
        self.end = self.size - END.size - length
        text = content[max(0, self.end) : -END.size]
        if mark != MARK or self.end < 0 or zlib.crc32(text) != checksum:
            raise ValueError("it is damaged or cut short")
        self.entries: dict[str, list[Any]] = json.loads(text)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"map": None}  # maps don't travel to another process

    def content(self) -> mmap.mmap:
        if self.map is None:
            with self.path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self.map

    def counts(self, key: str) -> dict[int, int]:
        """How much of every class an item's target holds, as `tally` counts it."""
        return {int(label): number for label, number in self.entries[key][3]}

    def shape(self, key: str) -> tuple[int, ...]:
        """The axes of an item's input, without its channels."""
        return tuple(self.entries[key][4][0][1][1:])

    def target(self, key: str) -> Any:
        """An item's target alone, which lies behind its input."""
        start, length, _, _, ((name, shape), target) = self.entries[key]
        first = start + math.prod(shape) * np.dtype(name).itemsize
        with memoryview(self.content()) as whole, whole[first : start + length] as piece:
            return Reader(bytearray(piece)).target(target)

    def read(self, key: str) -> Sample:
        """An item, in memory of its own.

        Raises:
            OSError: If the file is gone.
            ValueError: If the item is damaged.
        """
        start, length, checksum, _, layout = self.entries[key]
        with memoryview(self.content()) as whole, whole[start : start + length] as piece:
            if start + length > self.end or (key not in self.seen and zlib.crc32(piece) != checksum):
                raise ValueError("an item is damaged")
            self.seen.add(key)
            return Reader(bytearray(piece)).sample(layout)


class Reader:
    """Tensors out of the bytes of one item, one behind the other."""

    def __init__(self, content: bytearray) -> None:
        self.content, self.place = content, 0

    def sample(self, layout: list[Any]) -> Sample:
        signal, target = layout
        return self.tensor(signal), self.target(target)

    def target(self, layout: Any) -> Any:
        if isinstance(layout, dict):
            return {name: self.tensor(inner) for name, inner in layout.items()}
        return self.tensor(layout) if isinstance(layout, list) else layout

    def tensor(self, layout: list[Any]) -> Tensor:
        name, shape = layout
        if name not in TYPES:
            raise ValueError(f"a tensor of type {str(name)[:20]}")
        array = np.ndarray(tuple(shape), name, self.content, self.place)
        self.place += array.nbytes
        return torch.from_numpy(array if array.flags.aligned else array.copy())


def lay_out(value: Any, pieces: list[bytes]) -> Any:
    """How `value`, a tensor, a whole number, None or a mapping of tensors, lies in `pieces`, to which its bytes are added.

    Raises:
        TypeError: If it is anything else.
    """
    if isinstance(value, dict):
        return {str(name): lay_out(inner, pieces) for name, inner in value.items()}
    if value is None or type(value) is int:
        return value
    name = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__
    if name not in TYPES:
        raise TypeError(f"{name} has no place in a file of items")
    pieces.append(value.contiguous().numpy().tobytes())
    return [name, list(value.shape)]


class CacheWriter:
    """Writes a `CacheFile` into `folder`; there is nothing to be seen of it before it is whole.

    Raises:
        OSError: As soon as the disk does not take it; then `abandon`.
    """

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(PART, "", folder)
        self.path, self.file = Path(name), os.fdopen(handle, "wb")
        self.entries: dict[str, list[Any]] = {}
        self.size = 0

    def add(self, key: str, sample: Sample, counts: Tensor) -> None:
        pieces: list[bytes] = []
        layout = [lay_out(part, pieces) for part in sample]
        content = b"".join(pieces)
        self.file.write(content)
        found = [[label, int(counts[label])] for label in counts.nonzero().flatten().tolist()]
        self.entries[key] = [self.size, len(content), zlib.crc32(content), found, layout]
        self.size += len(content)

    def close(self) -> Path:
        """The finished file's path."""
        text = json.dumps(self.entries, separators=(",", ":")).encode()
        self.file.write(text + END.pack(len(text), zlib.crc32(text), MARK))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        final = self.path.with_suffix(SUFFIX)
        os.replace(self.path, final)
        return final

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):  # what it still held has no room either
            self.file.close()
        self.path.unlink(missing_ok=True)
