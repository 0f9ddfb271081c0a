"""Keys of decoded items in the cache on the disk: digests of everything that an item's bytes depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import soundfile
import soxr
import tifffile
import torch
from torch import Tensor

VERSION = 2
"""Version of the decoders; increment it when they decode a file to other values."""


def item_key(files: Sequence[Path], target: Any) -> str | None:
    """Returns the key of an item: a digest of its files' paths, sizes and times and of its target; None if a file is missing."""
    try:
        return hash_values([(os.path.abspath(p), (stat := p.stat()).st_size, stat.st_mtime_ns) for p in files], target)
    except (OSError, ValueError):
        return None


def set_key(settings: Any) -> str:
    """Returns the key of a set of items that are decoded with the same settings, libraries and processor, on which results depend."""
    libraries = (torch, PIL, tifffile, soundfile, soxr, np)
    return hash_values(VERSION, *(m.__version__ for m in libraries), torch.backends.cpu.get_cpu_capability(), settings)


def hash_values(*values: Any) -> str:
    """Returns 32 hexadecimal digits that depend on plain values, paths, tensors and dataclasses of them."""
    return hashlib.blake2b(json.dumps(values, default=plain).encode(), digest_size=16).hexdigest()


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tobytes().hex()]
    return vars(value) if is_dataclass(value) else str(value)
