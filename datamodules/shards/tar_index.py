"""A shard: a plain tar of numbered members; any item is read where it lies.

Only what a shard may hold is accepted: regular files named ``<number>.safetensors`` or ``<number>.png``, the members of an item one behind the other. Links,
folders and other names are refused; nothing is ever unpacked to a path. `tarfile` is not used to read: it takes 33 us per member, this
takes 7, and it follows extensions (long names, sparse files) that a shard must not have.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

BLOCK = 512
MEMBER = re.compile(r"(\d{1,12})\.(safetensors|png)")


class ShardFile:
    """An open shard.

    Args:
        path: The tar.
        count: Number of items it should hold.

    Attributes:
        starts: Where every item starts, int64 (items + 1,) in bytes; the last is the end.

    Raises:
        ValueError: If it is not such a tar, or holds another number of items.
    """

    def __init__(self, path: Path, count: int) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = memoryview(self.map)
        self.starts = self.scan()
        if len(self.starts) - 1 != count:
            raise ValueError(f"it holds {len(self.starts) - 1} items, not {count}")

    def scan(self) -> np.ndarray:
        starts, last, position = [], "", 0
        while position + BLOCK <= len(self.content) and self.content[position]:
            key, _, size = self.read_header(position)
            if key != last:
                starts.append(position)
                last = key
            position += BLOCK + padded(size)
        return np.array([*starts, position], np.int64)

    def read_header(self, position: int) -> tuple[str, str, int]:
        """Returns number, suffix and size in bytes of the member whose header is at `position`. Source: POSIX.1-1988, ustar."""
        block = bytes(self.content[position : position + BLOCK])
        name = block[:100].split(b"\0")[0].decode("ascii", "replace")
        if block[257:262] != b"ustar":
            raise ValueError(f"there is no ustar header at byte {position}")
        if block[156:157] not in (b"0", b"\0"):
            raise ValueError(f"its member {name!r} is a link or another special file")
        match = MEMBER.fullmatch(name)
        if not match or block[345:346] != b"\0":
            raise ValueError(f"its member {name!r} is not named <number>.safetensors or <number>.png")
        size = int(block[124:136].strip(b" \0") or b"0", 8)
        if not 0 <= size <= len(self.content) - position - BLOCK:
            raise ValueError(f"its member {name!r} would reach beyond its end")
        return match[1], match[2], size

    def members(self, index: int) -> dict[str, memoryview]:
        """Returns the members of an item by suffix."""
        position, end = (int(self.starts[index + i]) for i in (0, 1))
        members = {}
        while position < end:
            _, suffix, size = self.read_header(position)
            members[suffix] = self.content[position + BLOCK : position + BLOCK + size]
            position += BLOCK + padded(size)
        return members


def padded(size: int) -> int:
    """Returns the bytes that a member of `size` bytes takes in a tar."""
    return -(-size // BLOCK) * BLOCK
