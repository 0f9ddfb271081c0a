"""MNIST's own files. Source: LeCun, Cortes & Burges, The MNIST database, 1998."""

import gzip
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datamodules.base.files import FileDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import normalization_stats
from datamodules.decoding.resize import resize_geometry, resize_image
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample, Spec, require_range

RATIO = 1032
"""How much gzip's method can shrink anything. Source: Deutsch, 1996 (RFC 1951): 258 bytes by two bits, at most."""

PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(kw_only=True, eq=False, repr=False)
class Idx(FileDataModule):
    """``train-images-idx3-ubyte`` with ``train-labels-idx1-ubyte`` and the same for ``t10k``, packed (.gz) or not.

    Args:
        size: Side in pixels; None keeps the images' own.
        class_names: Names of the labels 0, 1, ... in order; None takes the numbers.

    Raises:
        InputError: If a file is missing, cut short or no IDX file, or images and labels differ in number.
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
        names = [name for name in tree if re.search(r"idx[13]-ubyte(\.gz)?$", name) and read_shape(root / name)]
        if not any("idx3" in name for name in names):
            return None
        headers = [f"{name} {'x'.join(map(str, read_shape(root / name)))}" for name in names]
        return FormatMatch(f"IDX headers: {', '.join(headers[:4])}", 0.9)

    def read(self) -> dict[str, list[Item]]:
        found = {}
        for split, prefix in PREFIXES.items():
            if split == "train" or find_idx(self.root_dir, f"{prefix}-images"):
                images, labels = self.pair(prefix)
                self.images[prefix] = images
                found[split] = [
                    Item(f"{prefix}[{i}]", int(label), stratum=int(label)) for i, label in enumerate(labels)
                ]
        names = self.names([item.target for items in found.values() for item in items])
        shape = self.images["train"].shape
        side = self.size or max(shape[1:3])
        if shape[1] != shape[2]:
            self.notes.append(f"images are stored with {shape[2]}x{shape[1]} pixels and are stretched to {side}x{side}")
        mean, std = normalization_stats(1)
        self.spec = self.checkpoint_spec or Spec(2, 1, tuple(names), mean, std, (side, side), "stretch")
        return self.complete_splits(found)

    def pair(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (N, H, W) and their labels (N,)."""
        files = [find_idx(self.root_dir, f"{prefix}-{what}") for what in ("images", "labels")]
        if None in files:
            raise InputError(
                "data.missing_file",
                f"{self.root_dir} lacks {prefix}-images-idx3-ubyte or {prefix}-labels-idx1-ubyte (.gz or not)",
            )
        images, labels = (read_idx(file) for file in files if file)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise InputError(
                "data.count_mismatch",
                f"{files[0]} holds {images.shape}, {files[1]} {labels.shape}: as many images (N, H, W) as labels (N,) are expected",
            )
        return images, labels

    def names(self, labels: list[int]) -> list[str]:
        """Class names in label order."""
        if self.checkpoint_spec:
            return list(self.checkpoint_spec.class_names)
        names = self.class_names or [str(i) for i in range(max(labels, default=0) + 1)]
        if max(labels, default=0) >= len(names):
            raise InputError(
                "data.unknown_class",
                f"{self.root_dir}: there is a label {max(labels)}, but data.class_names has {len(names)} names",
            )
        return names

    def files(self, item: Item) -> tuple[Path, ...]:
        return ()  # one file holds all images, and is in memory as it is

    def load(self, item: Item) -> Sample:
        prefix, _, index = item.name.rstrip("]").partition("[")
        image = torch.from_numpy(self.images[prefix][int(index)]).unsqueeze(0)
        placement = resize_geometry(image.shape[1], image.shape[2], self.spec.size, self.spec.resize)
        return resize_image(image, placement, self.spec.size), item.target


def find_idx(root: Path, start: str) -> Path | None:
    """The file whose name starts with `start`; some copies have a dot before ``idx``."""
    return next((p for p in sorted(root.glob(f"{start}?idx*")) if p.is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an IDX file, shaped as its big-endian header says.

    Raises:
        InputError: If it is cut short, or no IDX file of bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            sides = file.read(4 * head[3]) if head[:3] == b"\x00\x00\x08" and len(head) == 4 else b""
            if not sides or len(sides) < 4 * head[3]:
                raise InputError(
                    "data.unreadable_file", f"{path} is no IDX file of bytes: it starts with {head.hex() or 'nothing'}"
                )
            shape = np.frombuffer(sides, ">u4").astype(int).tolist()
            promised = math.prod(shape)
            if promised > path.stat().st_size * (RATIO if path.suffix == ".gz" else 1):
                raise InputError(
                    "data.truncated_file",
                    f"{path}: the header promises {shape}, more than the file can hold: it is cut short",
                )
            content = file.read(promised + 1)  # one more than there should be, and no more than that
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("data.unreadable_file", f"{path} can't be unpacked ({error}): fetch it again") from error
    if len(content) != promised:
        follow = f"{len(content)} bytes" if len(content) < promised else "more bytes"
        raise InputError(
            "data.truncated_file", f"{path}: the header promises {shape}, {follow} follow: it is cut short"
        )
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def read_shape(path: Path) -> tuple[int, ...]:
    """Returns the shape in the header of an IDX file of bytes; empty if it is none."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                return ()
            return tuple(int.from_bytes(file.read(4), "big") for _ in range(magic[3]))
    except (OSError, EOFError):
        return ()
