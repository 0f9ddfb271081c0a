"""Train, validation and test: their usual names, and how to make them where they are not given."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_name(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for a word that means it, else None."""
    return next((split for split, words in NAMES.items() if word.strip().lower() in words), None)


def split_folders(root: Path) -> dict[str, Path]:
    """{split: folder} for the folders of `root` that carry a split's usual name; empty where there is none."""
    found = {split_name(folder.name): folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    return {split: folder for split, folder in found.items() if split}


def stratified(items: Sequence[T], labels: Sequence[Hashable], share: float, seed: int) -> tuple[list[T], list[T]]:
    """`items` without, and with, about `share` (0 to 1) of every label; at least one stays and one goes where there are two."""
    taken: set[int] = set()
    for label in sorted(set(labels), key=str):
        members = [i for i, other in enumerate(labels) if other == label]
        number = min(len(members) - 1, max(1, round(share * len(members)))) if share > 0 else 0
        order = np.random.default_rng((seed, len(members))).permutation(len(members))
        taken.update(members[i] for i in order[:number])
    return [x for i, x in enumerate(items) if i not in taken], [x for i, x in enumerate(items) if i in taken]


def complete(
    found: dict[str, list[T]], labels: dict[str, list], val: float, test: float, seed: int
) -> dict[str, list[T]]:
    """Make the validation and test splits that are missing out of train, or out of everything where nothing was split.

    Args:
        found: Items by split.
        labels: What to stratify by, by split, in the items' order.
        val: Share that becomes validation where there is none, 0 to 1.
        test: Share that becomes the test where nothing was split at all, 0 to 1; a published split without a test stays so.
        seed: Of the choice.
    """
    train, kinds = (
        found.get("train", []),
        dict(zip(map(id, found.get("train", [])), labels.get("train", []), strict=True)),
    )
    whole = set(found) == {"train"}
    result = dict(found)
    if "test" not in found and whole and test > 0:
        train, result["test"] = stratified(train, [kinds[id(x)] for x in train], test, seed)
    if "val" not in found:
        train, result["val"] = stratified(train, [kinds[id(x)] for x in train], val, seed + 1)
    result["train"] = train
    return result
