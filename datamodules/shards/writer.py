"""Packs any data into shards: exactly what `load` returns, written whole or not at all."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import ItemDataset
from datamodules.shards.cache import checksum
from datamodules.shards.codec import Members, encode
from datamodules.shards.manifest import FILE, Manifest, Shard
from datamodules.shards.tar_index import BLOCK, padded
from foundation.storage.atomic import atomic_folder
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS

CHUNK = 64
"""Items that are decoded concurrently."""

LARGEST_SHARD_MB = 2048


def claim_folder(out: str) -> Path:
    """Returns the folder that shards may be written to.

    Raises:
        InputError: If `out` is an address, a file, or a folder that holds something.
    """
    if "://" in out:
        raise InputError(
            "shards.remote_output",
            f"out={out}: pack into a folder, then upload it (aws s3 sync, gsutil rsync, rclone ...)",
        )
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError("shards.output_exists", f"out={out} is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        first = sorted(path.name for path in folder.iterdir())[0]
        raise InputError("shards.output_exists", f"out={out} already holds {first}: name a new or empty folder")
    return folder


def pack(data: DataModule, out: str, shard_mb: float, seed: int, image_format: str = "raw") -> Manifest:
    """Writes every item of `data`, which is prepared here, with a manifest.

    Training items are shuffled once, since neighbors in a shard are loaded near each other in training; the others keep their order.

    Args:
        data: Of any format, not yet prepared.
        out: A folder that is new or empty.
        shard_mb: Megabytes from which on a shard is complete.
        seed: Of the shuffle.
        image_format: ``raw``, or ``png``: smaller without loss, and slower to read.

    Raises:
        InputError: If data or folder can't be used; then nothing is left behind.
    """
    check_options(shard_mb, image_format)
    folder = claim_folder(out)
    data.setup("fit")
    if data.spec.target not in TARGETS:
        raise InputError(
            "shards.joint_data", "joint data can't be packed: pack each part, and use the packed parts in data=joint"
        )
    try:
        with atomic_folder(folder) as part:
            return write_splits(data, part, shard_mb * 1e6, seed, image_format == "png")
    except OSError as error:
        raise InputError(
            "shards.output_unwritable",
            f"out={folder} can't be written ({error.strerror or error}): nothing was left there",
        ) from error


def write_splits(data: DataModule, folder: Path, limit: float, seed: int, png: bool) -> Manifest:
    """Writes the shards of all splits and the manifest."""
    splits = {
        split: write_split(encoded(items, seed, png), len(items), folder / split, limit)
        for split, items in data.datasets.items()
    }
    manifest = Manifest(replace(data.spec, parts={}), splits, [*data.notes, *data.skipped[:50]])
    (folder / FILE).write_text(manifest.to_json())
    return manifest


def check_options(shard_mb: float, image_format: str) -> None:
    if isinstance(shard_mb, bool) or not isinstance(shard_mb, (int, float)) or not 0 < shard_mb <= LARGEST_SHARD_MB:
        raise InputError(
            "config.out_of_range", f"shard_mb must be above 0 and at most {LARGEST_SHARD_MB}, got {shard_mb!r}"
        )
    if image_format not in ("raw", "png"):
        raise InputError("config.unknown_value", f"image_format must be raw or png, got {image_format!r}")


def write_split(items: Iterator[Members], count: int, start: Path, limit: float) -> list[Shard]:
    """Writes one split's `count` items as ``<start>-000000.tar`` and so on, each complete at `limit` bytes."""
    pending: list[Members] = []
    shards: list[Shard] = []
    size, started = 0.0, time.monotonic()

    def flush() -> None:
        shards.append(write_shard(start.with_name(f"{start.name}-{len(shards):06d}.tar"), pending))
        pending.clear()
        done = sum(shard.items for shard in shards)
        rate = done / max(1e-9, time.monotonic() - started)
        print(f"{start.name}: {done} of {count} items in {len(shards)} shards, {rate:.0f} items/s", file=sys.stderr)

    for members in items:
        pending.append(members)
        size += sum(BLOCK + padded(len(content)) for content in members.values())
        if size >= limit:
            flush()
            size = 0
    if pending:
        flush()
    return shards


def encoded(items: ItemDataset, seed: int, png: bool) -> Iterator[Members]:
    """Yields items as members, those of training shuffled; a few are decoded concurrently, few are in memory."""
    order = np.random.default_rng(seed).permutation(len(items)) if items.random else np.arange(len(items))
    kind = TARGETS[items.data.spec.target]

    def encode_item(index: int) -> Members:
        info = {"name": items.name(index), "group": items.items[index].group}
        return encode(items.sample(index), kind, info, png)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(order), CHUNK):
            yield from pool.map(encode_item, [int(index) for index in order[start : start + CHUNK]])


def write_shard(path: Path, items: Sequence[Members]) -> Shard:
    """Writes a tar of these items, the same bytes for the same items."""
    contents = [
        (f"{number:06d}.{suffix}", content)
        for number, members in enumerate(items)
        for suffix, content in members.items()
    ]
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in contents:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
    return Shard(path.name, len(items), path.stat().st_size, checksum(path))
