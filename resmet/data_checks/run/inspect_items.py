"""Opens every item once, on all cores, and measures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from datamodules.base.items import ItemDataModule
from datamodules.decoding.mask import read_mask
from datamodules.splits.splits import Item
from foundation.hardware import cores
from foundation.structures import InputError
from foundation.targets.kinds import TARGETS
from resmet.data_checks.checks import audio, images, masks, videos
from resmet.data_checks.model.facts import Facts
from resmet.data_checks.run.thumbnails import digest, thumbnail

CHUNK = 32  # items per job: a job of its own for a small item costs more than to open it

Progress = Callable[[int, int], None]
"""Called with the number of items done, and of all."""


def inspect_items(data: ItemDataModule, items: Iterable[Item], progress: Progress) -> dict[str, Facts]:
    """Returns {name: facts} of all items.

    Args:
        data: The reader of the items.
        items: Items of all splits.
        progress: Called after every chunk of items.
    """
    unique = list({item.name: item for item in items}.values())
    object_masks = data.target == "mask" and any(len(data.files(item)) > 2 for item in unique)
    chunks = [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
    facts: dict[str, Facts] = {}
    with ThreadPoolExecutor(cores()) as pool:
        for chunk in pool.map(partial(inspect_chunk, data, object_masks), chunks):
            facts |= chunk
            progress(len(facts), len(unique))
    return facts


def inspect_chunk(data: ItemDataModule, object_masks: bool, items: list[Item]) -> dict[str, Facts]:
    return {item.name: inspect_item(data, item, object_masks) for item in items}


def inspect_item(data: ItemDataModule, item: Item, object_masks: bool) -> Facts:
    """Opens one item and measures it; ``error`` is the only key if it can't be used.

    Args:
        data: The reader of the item.
        item: The item.
        object_masks: Whether every object has a mask file of its own.
    """
    try:
        signal, target = data.load(item)
    except InputError as error:
        return {"error": str(error)}
    counts = TARGETS[data.target].counts(target, data.spec.num_classes)
    facts: Facts = {
        "class_counts": Counter({label: number for label, number in enumerate(counts.tolist()) if number}),
        "digest": digest(signal),
        "thumbnail": thumbnail(signal),
    }
    facts |= audio.waveform_facts(signal) if data.ndim == 1 else images.pixel_facts(signal)
    if files := data.files(item):
        facts |= {1: audio, 2: images, 3: videos}[data.ndim].header_facts(files[0])
    if object_masks:
        facts |= masks.object_facts([read_mask(file) for file in files[1:]])
    return facts
