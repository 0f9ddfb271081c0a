"""MNIST's own files. Source: LeCun, Cortes & Burges, The MNIST database, 1998."""

import gzip
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch

from datamodules.base.files import FileDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import normalization_stats
from datamodules.decoding.resize import resize_geometry, resize_image
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample, Spec, require_range

MAX_RATIO = 1032
"""Largest compression ratio of gzip. Source: Deutsch, 1996 (RFC 1951): two bits for 258 bytes."""

PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(kw_only=True, eq=False, repr=False)
class Idx(FileDataModule):
    """``train-images-idx3-ubyte`` with ``train-labels-idx1-ubyte`` and the same for ``t10k``, with or without .gz.

    Args:
        size: Side in pixels; None keeps that of the images.
        class_names: Names of the labels 0, 1, ... in order; None takes the numbers.

    Raises:
        InputError: If a file is missing, truncated or not an IDX file, or images and labels differ in number.
    """

    size: int | None = None
    class_names: list[str] | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            require_range("data.size", self.size, 1)
        self.images: dict[str, np.ndarray] = {}

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        names = [name for name in tree if re.search(r"idx[13]-ubyte(\.gz)?$", name) and peek_shape(root / name)]
        if not any("idx3" in name for name in names):
            return None
        headers = [f"{name} {'x'.join(map(str, peek_shape(root / name)))}" for name in names]
        return FormatMatch(f"IDX headers: {', '.join(headers[:4])}", 0.9)

    def read(self) -> dict[str, list[Item]]:
        found = {}
        for split, prefix in PREFIXES.items():
            if split == "train" or find_idx(self.root_dir, f"{prefix}-images"):
                self.images[prefix], labels = self.read_pair(prefix)
                found[split] = [Item(f"{prefix}[{i}]", label, stratum=label) for i, label in enumerate(labels.tolist())]
        class_names = self.read_class_names(max(item.target for items in found.values() for item in items))
        height, width = self.images["train"].shape[1:]
        side = self.size or max(height, width)
        if height != width:
            self.notes.append(f"images are stored with {width}x{height} pixels and are stretched to {side}x{side}")
        mean, std = normalization_stats(1)
        self.spec = self.checkpoint_spec or Spec(2, 1, tuple(class_names), mean, std, (side, side), "stretch")
        return self.complete_splits(found)

    def read_pair(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns images uint8 (N, H, W) and their labels (N,)."""
        files = [find_idx(self.root_dir, f"{prefix}-{what}") for what in ("images", "labels")]
        if None in files:
            message = f"{self.root_dir} lacks {prefix}-images-idx3-ubyte or {prefix}-labels-idx1-ubyte (.gz or not)"
            raise InputError("data.missing_file", message)
        images, labels = (read_idx(file) for file in files if file)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
            message = f"{files[0]} has the shape {images.shape}, {files[1]} {labels.shape}: expected images (N, H, W) and labels (N,)"
            raise InputError("data.count_mismatch", message)
        return images, labels

    def read_class_names(self, largest: int) -> list[str]:
        """Returns the class names in label order; `largest` is the largest label."""
        names = self.known_classes(self.class_names or [str(label) for label in range(largest + 1)])
        if largest >= len(names):
            message = f"{self.root_dir}: there is a label {largest}, but data.class_names has {len(names)} names"
            raise InputError("data.unknown_class", message)
        return names

    def files(self, item: Item) -> tuple[Path, ...]:
        return ()  # one file has all images, which are in memory

    def load(self, item: Item) -> Sample:
        prefix, _, index = item.name.rstrip("]").partition("[")
        image = torch.from_numpy(self.images[prefix][int(index)]).unsqueeze(0)
        geometry = resize_geometry(image.shape[1], image.shape[2], self.spec.size, self.spec.resize)
        return resize_image(image, geometry, self.spec.size), item.target


def find_idx(root: Path, start: str) -> Path | None:
    """Returns the file whose name starts with `start`; some copies have a dot before ``idx``."""
    return next((path for path in sorted(root.glob(f"{start}?idx*")) if path.is_file()), None)


def open_idx(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_shape(file: BinaryIO) -> tuple[int, ...]:
    """Returns the shape in the big-endian header of an IDX file of bytes; empty for another file."""
    magic = file.read(4)
    sides = file.read(4 * magic[3]) if magic[:3] == b"\0\0\x08" and len(magic) == 4 else b""
    return tuple(np.frombuffer(sides, ">u4").tolist()) if sides and len(sides) == 4 * magic[3] else ()


def peek_shape(path: Path) -> tuple[int, ...]:
    """Returns the shape in the header of an IDX file of bytes; empty for another or an unreadable file."""
    try:
        with open_idx(path) as file:
            return read_shape(file)
    except (OSError, EOFError, zlib.error):
        return ()


def read_idx(path: Path) -> np.ndarray:
    """Returns the bytes of an IDX file in the shape of its header.

    Raises:
        InputError: If it is truncated, or not an IDX file of bytes.
    """
    try:
        with open_idx(path) as file:
            if not (shape := read_shape(file)):
                raise InputError("data.unreadable_file", f"{path} is not an IDX file of bytes")
            expected = math.prod(shape)
            largest = path.stat().st_size * (MAX_RATIO if path.suffix == ".gz" else 1)
            content = file.read(expected + 1) if expected <= largest else b""  # one more than there should be
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("data.unreadable_file", f"{path} can't be unpacked ({error}): download it again") from error
    if len(content) != expected:
        message = f"{path} does not have the size of its header, {shape}: download it again"
        raise InputError("data.truncated_file", message)
    return np.frombuffer(content, np.uint8).reshape(shape).copy()
