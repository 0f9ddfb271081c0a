"""A file of decoded items: written once and atomically, then memory-mapped by the processes that read it.

The items' bytes come first (see `item_codec`), then an index in JSON, its length, its checksum and a magic number. An untrusted file
can give wrong images, but run no code. A safetensors file has no room for several items with a checksum each, hence this container.
"""

from __future__ import annotations

import json
import logging
import mmap
import secrets
import struct
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.decoding.item_codec import decode_sample, decode_target, encode_sample
from foundation.storage.atomic import atomic_open
from foundation.storage.lru_dir import delete
from foundation.structures import Sample, first_line
from foundation.targets.base import TargetKind

MAGIC = b"resmet-2"
FOOTER = struct.Struct("<QI8s")
"""Length of the index, its CRC-32, the magic number."""

SUFFIX = ".items"

log = logging.getLogger("resmet")


class CacheFile:
    """Items by key, each compared with its checksum when a process reads it for the first time.

    Attributes:
        entries: {key: [first byte, length, CRC-32, [[class, count], ...], axes of the input]}.

    Raises:
        OSError: If the file can't be opened.
        ValueError: If it is another file, cut short, or its index is damaged.
    """

    def __init__(self, path: Path, kind: TargetKind) -> None:
        self.path, self.kind = path, kind
        self.map: mmap.mmap | None = None
        self.verified: set[str] = set()
        self.damaged = False
        content = self.content()
        self.size = len(content)
        length, checksum, magic = FOOTER.unpack(content[-FOOTER.size :]) if self.size >= FOOTER.size else (0, 0, b"")
        self.end = self.size - FOOTER.size - length
        text = content[max(0, self.end) : -FOOTER.size]
        if magic != MAGIC or self.end < 0 or zlib.crc32(text) != checksum:
            raise ValueError("it is damaged or cut short")
        self.entries: dict[str, list[Any]] = json.loads(text)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"map": None}  # another process maps the file itself

    def content(self) -> mmap.mmap:
        if self.map is None:
            with self.path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self.map

    def counts(self, key: str) -> dict[int, int]:
        """Returns how many items, objects or pixels of every class an item's target has."""
        return {int(label): number for label, number in self.entries[key][3]}

    def shape(self, key: str) -> tuple[int, ...]:
        """Returns the axes of an item's input, without its channels."""
        return tuple(self.entries[key][4])

    def target(self, key: str) -> Any:
        """Returns an item's target without reading its input."""
        with memoryview(self.content()) as whole, self.piece(whole, key) as piece:
            return decode_target(piece, self.kind)

    def read(self, key: str) -> Sample:
        """Returns an item, copied.

        Raises:
            OSError: If the file is gone.
            ValueError: If the item is damaged.
        """
        with memoryview(self.content()) as whole, self.piece(whole, key) as piece:
            if key not in self.verified and zlib.crc32(piece) != self.entries[key][2]:
                raise ValueError("an item is damaged")
            self.verified.add(key)
            return decode_sample(piece, self.kind)

    def piece(self, whole: memoryview, key: str) -> memoryview:
        start, length = self.entries[key][:2]
        if not 0 <= start <= start + length <= self.end:
            raise ValueError("an item is damaged")
        return whole[start : start + length]

    def discard(self, error: Exception) -> None:
        """Deletes the file because of `error`, so that the next run writes it again; logged once."""
        if not self.damaged:
            log.warning(f"{self.path} is damaged ({first_line(error)}): its damaged items are decoded each time")
            delete(self.path)
        self.damaged = True


class CacheWriter:
    """Writes a `CacheFile` into a folder, where it appears once it is complete.

    Raises:
        OSError: If it can't be written; then call `abort`.
    """

    def __init__(self, folder: Path, kind: TargetKind) -> None:
        self.path, self.kind = folder / f"{secrets.token_hex(8)}{SUFFIX}", kind
        self.stack = ExitStack()
        self.file = self.stack.enter_context(atomic_open(self.path))
        self.entries: dict[str, list[Any]] = {}
        self.size = 0

    def add(self, key: str, sample: Sample, counts: Tensor) -> None:
        content = encode_sample(sample, self.kind)
        self.file.write(content)
        present = [[label, int(counts[label])] for label in counts.nonzero().flatten().tolist()]
        self.entries[key] = [self.size, len(content), zlib.crc32(content), present, list(sample[0].shape[1:])]
        self.size += len(content)

    def close(self) -> CacheFile:
        """Returns the complete file."""
        text = json.dumps(self.entries, separators=(",", ":")).encode()
        self.file.write(text + FOOTER.pack(len(text), zlib.crc32(text), MAGIC))
        self.stack.close()
        return CacheFile(self.path, self.kind)

    def abort(self, error: Exception) -> None:
        """Leaves nothing behind because of `error`."""
        with suppress(OSError):  # bytes that were not written yet do not fit either
            self.stack.__exit__(type(error), error, None)
