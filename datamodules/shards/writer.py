"""Packs any data into shards: exactly what `load` returns, written whole or not at all."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import ItemDataset
from datamodules.decoding.item_codec import encode_sample
from datamodules.shards.download import checksum
from datamodules.shards.manifest import FILE, Manifest, Shard
from datamodules.shards.tar_index import BLOCK, padded
from foundation.storage.atomic import atomic_folder
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS
from foundation.threads import map_in_threads

MAX_SHARD_MB = 2048


def check_output_folder(out: str) -> Path:
    """Returns the folder that shards may be written to.

    Raises:
        InputError: If `out` is an address, a file, or a folder that is not empty.
    """
    if "://" in out:
        text = f"out={out}: pack into a folder, then upload it (aws s3 sync, rclone ...)"
        raise InputError("shards.remote_output", text)
    folder = Path(out).expanduser()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError("shards.output_exists", f"out={out} is not an empty folder: name a new one")
    return folder


def pack(data: DataModule, out: str, shard_mb: float, seed: int, image_format: str = "raw") -> Manifest:
    """Writes every item of `data`, with a manifest.

    Training items are shuffled once, since items of one shard are loaded close together; the others keep their order.

    Args:
        data: Of any format, before `setup`.
        out: A folder that is new or empty.
        shard_mb: Megabytes from which on a shard is complete.
        seed: Of the shuffle.
        image_format: ``raw``, or ``png``: smaller without loss, and slower to read.

    Raises:
        InputError: If data or folder can't be used; then nothing is left behind.
    """
    if type(shard_mb) not in (int, float) or not 0 < shard_mb <= MAX_SHARD_MB:
        text = f"shard_mb must be above 0, at most {MAX_SHARD_MB}, got {shard_mb!r}"
        raise InputError("config.out_of_range", text)
    if image_format not in ("raw", "png"):
        raise InputError("config.unknown_value", f"image_format must be raw or png, got {image_format!r}")
    folder = check_output_folder(out)
    data.setup("fit")
    if data.spec.target not in TARGETS:
        raise InputError("shards.joint_data", "joint data can't be packed: pack each part, and use these in data=joint")
    try:
        with atomic_folder(folder) as part:
            manifest = Manifest(replace(data.spec, parts={}), {}, [*data.notes, *data.skipped[:50]])
            for split, items in data.datasets.items():
                content = encoded(items, seed, image_format == "png")
                manifest.splits[split] = write_split(content, len(items), part / split, shard_mb * 1e6)
            (part / FILE).write_text(manifest.to_json())
            return manifest
    except OSError as error:
        text = f"out={folder} can't be written ({error.strerror or error}): nothing was left there"
        raise InputError("shards.output_unwritable", text) from error


def write_split(items: Iterator[bytes], count: int, start: Path, limit: float) -> list[Shard]:
    """Writes one split's `count` items as ``<start>-000000.tar`` and so on, each complete at `limit` bytes."""
    pending: list[bytes] = []
    shards: list[Shard] = []
    size, started = 0, time.monotonic()
    for done, content in enumerate(items, 1):
        pending.append(content)
        size += BLOCK + padded(len(content))
        if size >= limit or done == count:
            shards.append(write_shard(start.with_name(f"{start.name}-{len(shards):06d}.tar"), pending))
            pending, size = [], 0
            rate = done / max(1e-9, time.monotonic() - started)
            print(f"{start.name}: {done} of {count} items in {len(shards)} shards, {rate:.0f} items/s", file=sys.stderr)
    return shards


def encoded(items: ItemDataset, seed: int, png: bool) -> Iterator[bytes]:
    """Yields encoded items, those of training shuffled."""
    order = np.random.default_rng(seed).permutation(len(items)) if items.random else np.arange(len(items))

    def encode(index: int) -> bytes:
        info = {"name": items.name(index), "group": items.items[index].group}
        return encode_sample(items.sample(index), items.kind, info, png)

    return map_in_threads(encode, order.tolist())


def write_shard(path: Path, items: Sequence[bytes]) -> Shard:
    """Writes a tar of these items, the same bytes for the same items."""
    with path.open("w+b") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, content in enumerate(items):
                entry = tarfile.TarInfo(f"{number:06d}.safetensors")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
        return Shard(path.name, len(items), path.stat().st_size, checksum(file))
