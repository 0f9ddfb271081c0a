"""Opening every item once, on all cores; what was opened before and has not changed is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datamodules.base.datamodule import DataModule
from datamodules.decoding.image import read_mask
from datamodules.splits.splits import Item
from foundation.structures import InputError
from resmet.data_checks.checks import audio, images, masks, videos
from resmet.data_checks.run.result_cache import Facts, Memory, own_state
from resmet.data_checks.run.thumbnails import digest, thumb
from resmet.data_checks.scan.file_tree import stamp
from resmet.data_checks.scan.file_types import family

Watch = Callable[[int, int], None]
"""Told how many of how many items are done."""


def examine(data: DataModule, settings: str, memory: Memory, watch: Watch) -> dict[str, Facts]:
    """The facts of all items of `data`, by name.

    Args:
        data: A reader that has read its items.
        settings: How it reads: facts found under other settings don't count.
        memory: Where facts are remembered.
        watch: Is told of the progress.
    """
    items = {item.name: item for split in data.splits.values() for item in split.items}
    prefix = f"{own_state()} {settings}"
    states = {name: state for name, item in items.items() if (state := state_of(item, prefix))}
    known = memory.facts(states)
    waiting = [item for name, item in items.items() if name not in known]
    objects = any(len(target_files(item.target)) > 1 for item in items.values())
    found: dict[str, Facts] = {}
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for item, facts in zip(waiting, pool.map(lambda item: look(data, item, objects), waiting), strict=True):
                found[item.name] = facts
                watch(len(found), len(waiting))
    finally:  # a look that was broken off goes on where it stopped
        memory.keep_facts(found, states)
    return known | found


def state_of(item: Item, prefix: str) -> str:
    """A word that changes with the item's files; "" where it has none of its own."""
    stamps = [stamp(path) for path in [Path(item.name), *target_files(item.target)]]
    return f"{prefix} {stamps}" if stamps[0] else ""


def target_files(target: Any) -> list[Path]:
    """The files that hold an item's target; empty where it is known without opening one."""
    if isinstance(target, Path):
        return [target]
    if isinstance(target, Sequence) and not isinstance(target, str):
        return [part for part in target if isinstance(part, Path)]
    return []


def look(data: DataModule, item: Item, objects: bool) -> Facts:
    """What one item shows when it is opened; ``error`` alone where it can't be used.

    Args:
        data: Its reader.
        item: The item.
        objects: Whether a mask file holds one object.
    """
    try:
        signal, target = data.load(item)
    except InputError as error:
        return {"error": str(error)}
    facts: Facts = {"digest": digest(signal), "thumb": thumb(signal).tobytes()}
    path = Path(item.name)
    if data.ndim == 1:
        return facts | audio.wave_facts(signal) | audio.file_facts(path)
    facts |= images.pixel_facts(signal)
    facts |= videos.file_facts(path) if family(path.name) == "video" else images.file_facts(path)
    if data.kind == "mask":
        facts |= masks.mask_facts(target)
        if objects:
            facts |= masks.object_facts([read_mask(file) for file in target_files(item.target)])
    return facts
