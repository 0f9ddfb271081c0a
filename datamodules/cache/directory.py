"""Where decoded items lie on the disk: a folder per data set, shared by all processes and runs that open the set in the same way."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
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

from datamodules.cache.item_file import SUFFIX, CacheFile
from foundation.hardware import user_cache_dir
from foundation.storage.atomic import PART
from foundation.storage.lru_dir import LruDir, delete

VERSION = 2
"""Of how this project decodes items; whoever changes what comes out of a file raises it."""

DISK_SHARE = 4
"""All sets together take at most a quarter of the disk that is free without them."""

log = logging.getLogger("resmet")


class CacheFolder:
    """The cache files of one data set.

    Args:
        settings: Everything that an item's bytes depend on, besides the item and its files.
        target: The kind of the items' targets, as in `Spec.target`.
    """

    def __init__(self, settings: Any, target: str) -> None:
        self.sets = LruDir(user_cache_dir() / "items", SUFFIX)
        self.path = self.sets.root / digest([VERSION, versions(), settings])
        self.target = target
        self.files: dict[Path, CacheFile] = {}

    def find(self, keys: Iterable[str]) -> dict[str, CacheFile]:
        """Returns {key: the file that holds the item}. Damaged files are deleted, so that they are written again."""
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            if path in self.files:
                continue
            try:
                self.files[path] = CacheFile(path, self.target)
            except FileNotFoundError:
                continue  # deleted by another process
            except (OSError, ValueError) as error:
                log.warning(f"{path} can't be used ({error}): its items are decoded again")
                delete(path)
        owners = {key: file for file in self.files.values() for key in file.entries}
        found = {key: owners[key] for key in keys if key in owners}
        for file in set(found.values()):
            self.sets.touch(file.path)
        return found

    def budget(self) -> int:
        """Returns the bytes that all sets may take together; 0 where the folder can't be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            return (shutil.disk_usage(self.path).free + self.sets.size()) // DISK_SHARE
        except OSError:
            return 0

    def make_room(self, size: int, budget: int, used: Collection[Path]) -> int:
        """Deletes the least recently used files that are not in `used` until `size` more bytes fit; returns the free bytes."""
        for part in self.path.glob(f".*{PART}"):
            delete(part)  # of a process that died: whoever writes holds the lock
        return self.sets.make_room(size, budget, used)


def item_key(files: Sequence[Path], target: Any) -> str | None:
    """Returns the key of an item: a digest of its files' paths, sizes and times and of its target; None if a file is missing."""
    try:
        stamps = [(os.path.abspath(path), *(stat.st_size, stat.st_mtime_ns)) for path in files if (stat := path.stat())]
    except (OSError, ValueError):
        return None
    return digest([stamps, target])


def digest(value: Any) -> str:
    """Returns 32 hexadecimal digits that depend on plain values, paths, tensors and dataclasses of them."""
    hasher = hashlib.blake2b(digest_size=16)
    feed(value, hasher)
    return hasher.hexdigest()


def feed(value: Any, hasher: hashlib.blake2b) -> None:
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        hasher.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key, inner in value.items():
            feed(key, hasher)
            feed(inner, hasher)
    elif is_dataclass(value):
        feed([getattr(value, field.name) for field in fields(value)], hasher)
    elif isinstance(value, (list, tuple)) and any(not isinstance(v, (int, float, str)) for v in value):
        hasher.update(f"{len(value)}[".encode())
        for inner in value:
            feed(inner, hasher)
    else:
        hasher.update(f"{type(value).__name__}:{value!r};".encode())


def versions() -> list[str]:
    """Returns the versions of the libraries that decode or resize, and the kind of processor: results may differ between them."""
    libraries = (torch, torchvision, PIL, tifffile, soundfile, soxr, np)
    return [*(module.__version__ for module in libraries), torch.backends.cpu.get_cpu_capability()]
