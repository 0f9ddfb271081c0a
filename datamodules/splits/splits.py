"""Training, validation and test: their usual names, and how to make them where they are not given."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.splits.stratify import stratified_parts
from foundation.structures import InputError, require_range

MAX_FRACTION = 1 / 3
"""Of all items: if one item of every class were more than this, small classes are not in every split."""

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Item:
    """An item before it is opened.

    Attributes:
        name: Its path, or another unique name.
        target: Its target as the reader has it, perhaps a file.
        group: Its origin (a patient, a speaker); no group is in two of the splits that are made here.
        stratum: Usually the class, of which every split gets its fraction; a tuple of all classes for multi-label data.
    """

    name: str
    target: Any
    group: str = ""
    stratum: Hashable = 0


@dataclass(frozen=True)
class Splits:
    """How validation and test splits are made where the data has none. Published splits stay as they are unless `published` is False.

    Args:
        val: Fraction that becomes the validation split, 0 to below 1.
        test: Fraction that becomes the test split if nothing was split at all; published splits without a test split stay so.
        folds: Number k of a k-fold cross-validation: training and validation are pooled, and one of k parts validates; 0 for none.
        fold: Which of the parts, 0 to k - 1.
        group: Regular expression, searched in an item's path below the root: the match (of its first group, if it has one)
            names the item's group. None uses the data's own groups, if it has any.
        published: Whether to use splits that the data has; if not, all items are split again.

    Raises:
        InputError: If a value is outside its range, or `group` is not a regular expression.
    """

    val: float = 0.1
    test: float = 0.1
    folds: int = 0
    fold: int = 0
    group: str | None = None
    published: bool = True

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            require_range(f"data.splits.{name}", getattr(self, name), 0, 1, below=True)
        if self.folds < 0 or self.folds == 1:
            raise InputError("config.out_of_range", f"data.splits.folds must be 0 or at least 2, got {self.folds}")
        require_range("data.splits.fold", self.fold, 0, max(0, self.folds - 1))
        try:
            re.compile(self.group or "")
        except re.error as error:
            text = f"data.splits.group={self.group} is not a regular expression: {error}"
            raise InputError("config.invalid_regex", text) from error

    def complete(self, found: dict[str, list[Item]], seed: int, root: str = "") -> dict[str, list[Item]]:
        """Returns the items by split with the missing splits, taken out of ``train``; with all of them if published ones are not used.

        `group` is searched in paths below `root`.
        """
        found = found if self.published else {"train": [item for items in found.values() for item in items]}
        result = {split: [self.with_group(item, root) for item in items] for split, items in found.items()}
        if set(found) == {"train"} and self.test:
            result["train"], result["test"] = split_off(result["train"], self.test, seed)
        if self.folds:
            pool = result.get("train", []) + result.get("val", [])
            result["train"], result["val"] = split_fold(pool, self.folds, self.fold, seed + 1)
        elif "val" not in found:
            result["train"], result["val"] = split_off(result.get("train", []), self.val, seed + 1)
        return result

    def with_group(self, item: Item, root: str) -> Item:
        """Returns `item` with the group that its path names."""
        if self.group is None:
            return item
        match = re.search(self.group, item.name.removeprefix(root).lstrip("/"))
        if not match:
            text = f"data.splits.group={self.group} does not match {item.name}: every path must name its group"
            raise InputError("data.missing_group", text)
        return replace(item, group=match[1] if match.re.groups else match[0])


AS_PUBLISHED = Splits(0.0, 0.0)


def split_name(word: str) -> str | None:
    """Returns ``train``, ``val`` or ``test`` for one of its usual names, else None."""
    return next((split for split, words in NAMES.items() if word.strip().lower() in words), None)


def split_folders(root: Path) -> dict[str, Path]:
    """Returns {split: folder} for the folders of `root` that have a split's usual name; empty if there are none."""
    return {name: path for path in sorted(root.iterdir()) if path.is_dir() and (name := split_name(path.name))}


def split_off(items: Sequence[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Returns `items` without, and with, about `fraction` (0 to 1) of every stratum or label; groups are not divided."""
    if not fraction or not items:
        return list(items), []
    if is_multilabel(items):
        return partition(items, multilabel_parts(items, [1 - fraction, fraction], seed, train_first=True)[1])
    if any(item.group for item in items):
        parts = group_parts(items, max(2, round(1 / fraction)), seed)
        return partition(items, nearest_union(parts, fraction * len(items)))
    sizes = [
        (stratum, min(len(stratum) - 1, max(1, round(fraction * len(stratum))))) for stratum in strata(items, seed)
    ]
    chosen = {index for stratum, size in sizes for index in stratum[:size]}
    if len(chosen) > max(MAX_FRACTION, 1.5 * fraction) * len(items):  # one item of each class would be far too many
        chosen = multilabel_parts(items, [1 - fraction, fraction], seed, train_first=True)[1]
    return partition(items, chosen)


def split_fold(items: Sequence[Item], folds: int, fold: int, seed: int) -> tuple[list[Item], list[Item]]:
    """Returns `items` without, and with, part `fold` of `folds`. Every item is in one part; strata and groups as in `split_off`."""
    has_groups = any(item.group for item in items)
    if not has_groups and len(items) < folds:
        raise InputError("data.too_few_items", f"data.splits.folds={folds} exceeds the {len(items)} items: lower it")
    if is_multilabel(items):
        return partition(items, multilabel_parts(items, [1 / folds] * folds, seed)[fold])
    if has_groups:
        return partition(items, group_parts(items, folds, seed, minimum=folds)[fold])
    order = [index for members in strata(items, seed) for index in members]
    return partition(items, {index for place, index in enumerate(order) if place % folds == fold})


def is_multilabel(items: Sequence[Item]) -> bool:
    """Whether a stratum is a set of labels, given as a tuple, rather than one class."""
    return any(isinstance(item.stratum, tuple) for item in items)


def multilabel_parts(
    items: Sequence[Item], fractions: list[float], seed: int, train_first: bool = False
) -> list[set[int]]:
    """Returns the indices of parts of these fractions, each with its fraction of every label; groups are not divided."""
    members = indices_by(group_names(items, len(fractions)))
    labels = [item.stratum if isinstance(item.stratum, tuple) else (item.stratum,) for item in items]
    units = [(len(group), frozenset(label for i in group for label in labels[i])) for group in members.values()]
    parts: list[set[int]] = [set() for _ in fractions]
    for part, group in zip(stratified_parts(units, fractions, seed, train_first), members.values(), strict=True):
        parts[part].update(group)
    return parts


def group_names(items: Sequence[Item], minimum: int = 2) -> list[str]:
    """Returns what may not be divided, per item: its group, or the item itself.

    Raises:
        InputError: If there are groups, but fewer than `minimum`.
    """
    if not any(item.group for item in items):
        return [str(index) for index in range(len(items))]
    groups = [item.group or item.name for item in items]
    number = len(set(groups))
    if number < minimum:
        remedy = f"lower data.splits.folds={minimum}" if number > 1 else "give the splits, or another group"
        text = f"groups are not divided, and there are only {number}, such as {groups[0]}: {remedy}"
        raise InputError("data.too_few_groups", text)
    return groups


def strata(items: Sequence[Item], seed: int) -> list[list[int]]:
    """Returns the indices of every stratum's items, shuffled."""
    members = indices_by([str(item.stratum) for item in items])
    return [
        [stratum[i] for i in np.random.default_rng((seed, len(stratum))).permutation(len(stratum))]
        for _, stratum in sorted(members.items())
    ]


def indices_by(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the indices of every name, by name."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        indices.setdefault(name, []).append(index)
    return indices


def nearest_union(parts: list[set[int]], goal: float) -> set[int]:
    """Returns the union of the smallest parts whose size is nearest to `goal` items; at least one part."""
    first, *others = sorted(parts, key=len)
    chosen = set(first)
    for part in others[:-2]:  # the two largest are left, so that they can be split once more
        if abs(len(chosen) + len(part) - goal) < abs(len(chosen) - goal):
            chosen |= part
    return chosen


def group_parts(items: Sequence[Item], folds: int, seed: int, minimum: int = 2) -> list[set[int]]:
    """Returns the indices of up to `folds` parts of whole groups, strata as even as possible."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and seldom needed

    groups = group_names(items, minimum)
    counts = Counter(str(item.stratum) for item in items)
    classes = [str(item.stratum) if counts[str(item.stratum)] >= folds else "rare" for item in items]
    rare = classes.count("rare")
    if 0 < rare < min(folds, len(classes)):  # too few to be a class of their own
        classes = [""] * len(classes)
    splitter = StratifiedGroupKFold(min(folds, len(set(groups))), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about strata with few members
        found = splitter.split(classes, classes if len(set(classes)) > 1 else [0] * len(classes), groups)
        return [set(chosen.tolist()) for _, chosen in found]


def partition(items: Sequence[Item], chosen: set[int]) -> tuple[list[Item], list[Item]]:
    """Returns the items that are not chosen, and those that are, in their order."""
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]
