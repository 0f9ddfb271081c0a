"""A shard: a plain tar of numbered members, any item of which is read where it lies.

Only what a shard may hold is understood: regular files called ``<number>.<what>``, the members of an item one behind the other. A
link, a folder, or any other name is refused; nothing is ever unpacked to a path.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

BLOCK = 512
NAME = re.compile(r"(\d{1,12})\.([a-z][a-z_.]{0,40})")


class ShardFile:
    """Args:
        path: The tar.
        count: How many items it should hold.

    Raises:
        ValueError: If it is no such tar, or holds another number of items.
    """

    def __init__(self, path: Path, count: int) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = memoryview(self.map)
        self.starts = self.index()
        if len(self.starts) - 1 != count:
            raise ValueError(f"it holds {len(self.starts) - 1} items, {count} are promised")

    def index(self) -> np.ndarray:
        """Where every item begins, int64 (items + 1,) in bytes; the last is the end."""
        starts, last, place = [], "", 0
        while place + BLOCK <= len(self.content) and self.content[place]:
            key, _, size = self.header(place)
            if key != last:
                starts.append(place)
                last = key
            place += BLOCK + -(-size // BLOCK) * BLOCK
        return np.array([*starts, place], np.int64)

    def header(self, place: int) -> tuple[str, str, int]:
        """Key, suffix and size in bytes of the member whose header is at `place`. Source: POSIX.1-1988, ustar."""
        block = bytes(self.content[place : place + BLOCK])
        name = block[:100].split(b"\0")[0].decode("ascii", "replace")
        if block[257:262] != b"ustar":
            raise ValueError(f"there is no ustar header at byte {place}")
        if block[156:157] not in (b"0", b"\0"):
            raise ValueError(f"its member {name!r} is a link or something else that is no plain file")
        match = NAME.fullmatch(name)
        if not match or block[345:346] != b"\0":
            raise ValueError(f"its member {name!r} is not called <number>.<what>")
        size = int(block[124:136].strip(b" \0") or b"0", 8)
        if not 0 <= size <= len(self.content) - place - BLOCK:
            raise ValueError(f"its member {name!r} would reach over its end")
        return match[1], match[2], size

    def members(self, place: int) -> dict[str, memoryview]:
        """The members of the item at `place` in the shard by their suffix."""
        at, end = (int(self.starts[place + i]) for i in (0, 1))
        found = {}
        while at < end:
            _, suffix, size = self.header(at)
            found[suffix] = self.content[at + BLOCK : at + BLOCK + size]
            at += BLOCK + -(-size // BLOCK) * BLOCK
        return found
