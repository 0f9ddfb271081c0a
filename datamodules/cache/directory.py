"""Where decoded items lie on the disk: a folder a set of data, shared by all processes and runs that open the set in the same way."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import soundfile
import soxr
import tifffile
import torch
import torchvision
from torch import Tensor

from datamodules.cache.item_file import PART, SUFFIX, CacheFile
from foundation.hardware import user_cache_dir

VERSION = 1
"""Of how this project opens items; whoever changes what comes out of a file raises it."""

SHARE = 4
"""All sets together take a quarter of the disk that is free without them, at most."""

MOST_FILES = 16
"""Files a set; each time that some items changed there is one more, and those unused for longest leave."""

STALE = 86400
"""Seconds since its last byte after which an unfinished file is one of a process that died."""

log = logging.getLogger("resmet")


class CacheFolder:
    """The files of one set.

    Args:
        settings: Everything that an item's bytes depend on, besides the item and its files.
    """

    def __init__(self, settings: Any) -> None:
        self.home = user_cache_dir() / "items"
        self.path = self.home / digest([VERSION, versions(), settings])
        self.files: dict[Path, CacheFile] = {}

    def find(self, keys: Iterable[str]) -> dict[str, CacheFile]:
        """{key: the file that holds the item}. Damaged files are removed, so that they are made anew."""
        found: dict[str, CacheFile] = {}
        for path in sorted(self.path.glob(f"*{SUFFIX}")) if self.path.is_dir() else ():
            try:
                self.files.setdefault(path, CacheFile(path))
            except FileNotFoundError:
                continue  # thrown out meanwhile
            except (OSError, ValueError) as error:
                log.warning(f"{path} can't be used ({error}): its items are decoded anew")
                remove(path)
        for key in keys:
            if file := next((file for file in self.files.values() if key in file.entries), None):
                found[key] = file
        for file in set(found.values()):
            with suppress(OSError):
                os.utime(file.path)
        return found

    def budget(self) -> int:
        """Bytes that all sets may take together."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = sum(size_at(path) for path in self.home.glob(f"*/*{SUFFIX}"))
            return (shutil.disk_usage(self.path).free + own) // SHARE
        except OSError:
            return 0

    def make_room(self, size: int, budget: int, used: Sequence[Path]) -> int:
        """Throw out what was unused for longest, not what is `used` now, until `size` more bytes fit; how many there is room for."""
        for part in self.home.glob(f"*/*{PART}"):
            if part.parent == self.path or age(part) > STALE:  # this set's are dead: whoever writes holds the lock
                remove(part)
        files = sorted((p for p in self.home.glob(f"*/*{SUFFIX}")), key=age, reverse=True)
        total = sum(map(size_at, files))
        own = [path for path in files if path.parent == self.path]
        surplus = {path for path in own[: max(0, len(own) - MOST_FILES + 1)] if path not in used}
        for path in files:
            if path not in used and (path in surplus or total + size > budget):
                total -= size_at(path)
                remove(path)
                with suppress(OSError):
                    path.parent.rmdir()  # the last one
        return max(0, budget - total)


def key_of(files: Sequence[Path], target: Any) -> str | None:
    """What an item goes by: its files' paths, sizes and times, and what the reader knows of its target; None where a file is gone."""
    try:
        stamps = [(os.path.abspath(path), *(stat.st_size, stat.st_mtime_ns)) for path in files if (stat := path.stat())]
    except (OSError, ValueError):
        return None
    return digest([stamps, target])


def digest(value: Any) -> str:
    """32 hexadecimal digits that follow from plain values, paths, tensors and dataclasses of them."""
    found = hashlib.blake2b(digest_size=16)
    feed(value, found)
    return found.hexdigest()


def feed(value: Any, found: Any) -> None:
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key, inner in value.items():
            feed(key, found)
            feed(inner, found)
    elif is_dataclass(value):
        feed([getattr(value, field.name) for field in fields(value)], found)
    elif isinstance(value, (list, tuple)) and any(not isinstance(v, (int, float, str)) for v in value):
        found.update(f"{len(value)}[".encode())
        for inner in value:
            feed(inner, found)
    else:
        found.update(f"{type(value).__name__}:{value!r};".encode())


def versions() -> list[str]:
    """What may decode or resize another way one day, and the kind of processor."""
    libraries = (torch, torchvision, PIL, tifffile, soundfile, soxr, np)
    return [*(module.__version__ for module in libraries), torch.backends.cpu.get_cpu_capability()]


def size_at(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def age(path: Path) -> float:
    """Seconds since a file was last used or written; endless where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
