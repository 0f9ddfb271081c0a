"""Any data as shards: exactly what `load` gives, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import ItemDataset
from datamodules.shards.cache import checksum
from datamodules.shards.codec import Members, encode
from datamodules.shards.manifest import FILE, Manifest, Shard
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS

AT_ONCE = 64
"""Items that are opened side by side."""


def claim_folder(out: str) -> Path:
    """Where shards may be written.

    Raises:
        InputError: If that is an address, a file, or a folder that holds something.
    """
    if "://" in out:
        raise InputError(f"out={out}: pack into a folder, then upload it (aws s3 sync, gsutil rsync, rclone ...)")
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"out={out} is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"out={out} already holds {sorted(p.name for p in folder.iterdir())[0]}: name a new or empty folder"
        )
    return folder


def pack(data: DataModule, out: str, shard_mb: float, seed: int, pictures: str = "npy") -> Manifest:
    """Write every item of `data`, which is prepared here, with a manifest.

    Training items are shuffled once, since those that lie near each other come near each other in training, too; the others keep their order.

    Args:
        data: Of any format, not yet prepared.
        out: A folder that is new or empty.
        shard_mb: Megabytes from which on a shard is closed.
        seed: Of the shuffle.
        pictures: ``npy``, or ``png``: smaller without loss, and slower to read.

    Raises:
        InputError: If data or folder can't be used; then nothing is left behind.
    """
    if isinstance(shard_mb, bool) or not isinstance(shard_mb, (int, float)) or not 0 < shard_mb <= 2048:
        raise InputError(f"shard_mb must be a number above 0, at most 2048, got {shard_mb!r}")
    if pictures not in ("npy", "png"):
        raise InputError(f"pictures must be npy or png, got {pictures!r}")
    folder = claim_folder(out)
    data.prepare()
    if data.spec.target not in TARGETS:
        raise InputError(
            "joint data is not packed as one: pack each part by itself, and name the packed parts in data=joint"
        )
    spec = replace(data.spec, parts={})
    with appearing(folder) as part:
        splits = {
            split: pack_split(encoded(items, seed, pictures == "png"), len(items), part / split, shard_mb * 1e6)
            for split, items in data.splits.items()
        }
        manifest = Manifest(spec, splits, [*data.notes, *data.skipped[:50]])
        (part / FILE).write_text(manifest.to_json())
    return manifest


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name at the end; nothing stays where something fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(".part", f".{folder.name}.", folder.parent))
    except OSError as error:
        raise InputError(f"out={folder} can't be written ({error.strerror}): name another folder") from error
    try:
        yield part
        part.chmod(0o755)
        os.replace(part, folder)
    except OSError as error:
        raise InputError(
            f"out={folder} can't be written ({error.strerror or error}): nothing was left there"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def pack_split(items: Iterator[Members], count: int, start: Path, limit: float) -> list[Shard]:
    """Write one split's `count` items as ``<start>-000000.tar`` and so on, each closed at `limit` bytes."""
    waiting: list[Members] = []
    shards: list[Shard] = []
    size, began = 0.0, time.monotonic()

    def close() -> None:
        shards.append(write_shard(start.with_name(f"{start.name}-{len(shards):06d}.tar"), waiting))
        waiting.clear()
        done = sum(shard.items for shard in shards)
        rate = done / max(1e-9, time.monotonic() - began)
        print(f"{start.name}: {done} of {count} items in {len(shards)} shards, {rate:.0f} a second", file=sys.stderr)

    for members in items:
        waiting.append(members)
        size += sum(512 + -(-len(content) // 512) * 512 for content in members.values())  # as tar lays them
        if size >= limit:
            close()
            size = 0
    if waiting:
        close()
    return shards


def encoded(items: ItemDataset, seed: int, png: bool) -> Iterator[Members]:
    """Items as members, those of training shuffled; some are opened at once, few are in memory."""
    order = np.random.default_rng(seed).permutation(len(items)) if items.random else np.arange(len(items))

    def one(index: int) -> Members:
        item = items.items[index]
        return encode(items.sample(index), items.kind, items.name(index), item.group, png)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(order), AT_ONCE):
            yield from pool.map(one, [int(index) for index in order[start : start + AT_ONCE]])


def write_shard(path: Path, items: Sequence[Members]) -> Shard:
    """A tar of these items, the same bytes for the same items."""
    with path.open("wb") as file:
        with webdataset_writer(file) as tar:
            for number, members in enumerate(items):
                tar.write({"__key__": f"{number:06d}", **members})
        file.flush()
        os.fsync(file.fileno())
    return Shard(path.name, len(items), path.stat().st_size, checksum(path))


def webdataset_writer(file: Any) -> Any:
    from webdataset import TarWriter  # slow to import, and no reader needs it

    return TarWriter(file, encoder=False, mtime=0)
