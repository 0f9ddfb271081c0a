"""Train, validation and test: their usual names, and how to make them where they are not given."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.splits.stratify import share_out
from foundation.structures import InputError

MOST = 1 / 3  # of all items: where one of every class would take more, small classes do without
NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Item:
    """An item before it is opened.

    Attributes:
        name: Where it is.
        target: What the reader knows of its target.
        group: Whom or what it was taken from (a patient, a speaker); one group is never in two splits that are made here.
        stratum: What every split should have its share of, as a rule the class; a tuple of all classes, where there may be several.
    """

    name: str
    target: Any
    group: str = ""
    stratum: Hashable = 0


@dataclass(frozen=True)
class Splits:
    """How validation and test are made where the data has none. What was published stays as it is, unless that is not wanted.

    Args:
        val: Share that becomes validation, 0 to below 1.
        test: Share that becomes the test where nothing was split at all; a published split without a test stays so.
        folds: Number k of a k-fold cross-validation: training and validation are pooled, and one of k parts validates; 0 for none.
        fold: Which of the parts, 0 to k - 1.
        group: Regular expression, searched in an item's path below the root: what it finds (its first bracket, if it has one)
            names the item's group. None takes the data's own groups, if it has any.
        published: Whether splits that the data has by itself count; if not, all items are shared out anew.

    Raises:
        InputError: If a value is outside its range, or `group` is no regular expression.
    """

    val: float = 0.1
    test: float = 0.1
    folds: int = 0
    fold: int = 0
    group: str | None = None
    published: bool = True

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"data.splits.{name} is a share from 0 to below 1, got {getattr(self, name)}")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"data.splits.folds must be 0 (none) or at least 2, got {self.folds}")
        if not 0 <= self.fold < max(1, self.folds):
            allowed = f"from 0 to {self.folds - 1}" if self.folds else "0 unless data.splits.folds is set"
            raise InputError(f"data.splits.fold must be {allowed}, got {self.fold}")
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise InputError(f"data.splits.group={self.group} is no regular expression: {error}") from error

    def complete(self, found: dict[str, list[Item]], seed: int, root: str = "") -> dict[str, list[Item]]:
        """`found` with the splits that it lacks, taken out of ``train``; with all of them, where published ones don't count.

        Args:
            found: Items by split.
            seed: Of the choice.
            root: The folder below which `group` is searched.
        """
        found = found if self.published else {"train": [item for items in found.values() for item in items]}
        result = {split: [self.grouped(item, root) for item in items] for split, items in found.items()}
        if set(found) == {"train"} and self.test:
            result["train"], result["test"] = parted(result["train"], self.test, seed)
        if self.folds:
            pool = result.get("train", []) + result.get("val", [])
            result["train"], result["val"] = folded(pool, self.folds, self.fold, seed + 1)
        elif "val" not in found:
            result["train"], result["val"] = parted(result.get("train", []), self.val, seed + 1)
        return result

    def grouped(self, item: Item, root: str) -> Item:
        """`item` with the group that its path names."""
        if self.group is None:
            return item
        match = re.search(self.group, item.name.removeprefix(root).lstrip("/"))
        if not match:
            raise InputError(
                f"data.splits.group={self.group} finds nothing in {item.name}: every path must name its group"
            )
        return Item(item.name, item.target, match[1] if match.re.groups else match[0], item.stratum)


AS_PUBLISHED = Splits(0.0, 0.0)


def split_name(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for a word that means it, else None."""
    return next((split for split, words in NAMES.items() if word.strip().lower() in words), None)


def split_folders(root: Path) -> dict[str, Path]:
    """{split: folder} for the folders of `root` that carry a split's usual name; empty where there is none."""
    found = {split_name(folder.name): folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    return {split: folder for split, folder in found.items() if split}


def parted(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """`items` without, and with, about `share` (0 to 1) of every stratum or label; whole groups, where there are groups."""
    if not share or not items:
        return list(items), []
    if has_labels(items):
        return pick(items, shared(items, [1 - share, share], seed, first_knows_all=True)[1])
    if any(item.group for item in items):
        return pick(items, nearest_share(parts_of_groups(items, max(2, round(1 / share)), seed), share * len(items)))
    taken: set[int] = set()
    for members in strata(items, seed):
        taken.update(members[: min(len(members) - 1, max(1, round(share * len(members))))])
    if len(taken) > max(MOST, 1.5 * share) * len(items):  # one of each class would be far too many
        taken = shared(items, [1 - share, share], seed, first_knows_all=True)[1]
    return pick(items, taken)


def folded(items: Sequence[Item], folds: int, fold: int, seed: int) -> tuple[list[Item], list[Item]]:
    """`items` without, and with, part `fold` of `folds`: every item is in one part, every stratum and group as in `parted`."""
    grouped = any(item.group for item in items)
    if not grouped and len(items) < folds:
        raise InputError(f"data.splits.folds={folds}, but there are only {len(items)} items to share out: lower it")
    if has_labels(items):
        return pick(items, shared(items, [1 / folds] * folds, seed)[fold])
    if grouped:
        return pick(items, parts_of_groups(items, folds, seed, least=folds)[fold])
    order = [index for members in strata(items, seed) for index in members]
    return pick(items, {index for place, index in enumerate(order) if place % folds == fold})


def has_labels(items: Sequence[Item]) -> bool:
    """Whether a stratum is a set of labels, given as a tuple, rather than one class."""
    return any(isinstance(item.stratum, tuple) for item in items)


def shared(items: Sequence[Item], shares: list[float], seed: int, first_knows_all: bool = False) -> list[set[int]]:
    """The indices of parts of these shares, each with its share of every label; whole groups, where there are groups."""
    members: dict[str, list[int]] = {}
    for index, name in enumerate(whole_groups(items, len(shares))):
        members.setdefault(name, []).append(index)
    units = [(len(own), frozenset(label for i in own for label in labels_of(items[i]))) for own in members.values()]
    parts = share_out(units, shares, seed, first_knows_all)
    found: list[set[int]] = [set() for _ in shares]
    for part, own in zip(parts, members.values(), strict=True):
        found[part].update(own)
    return found


def labels_of(item: Item) -> tuple[Hashable, ...]:
    return item.stratum if isinstance(item.stratum, tuple) else (item.stratum,)


def whole_groups(items: Sequence[Item], least: int = 2) -> list[str]:
    """What may not be cut, by item: its group; the item itself, where it has none.

    Raises:
        InputError: If there are groups, but fewer than `least` to share out.
    """
    if not any(item.group for item in items):
        return [str(index) for index in range(len(items))]
    groups = [item.group or item.name for item in items]
    number = len(set(groups))
    if number < 2:
        raise InputError(
            f"all items are of one group ({groups[0]}), and groups are never cut: give the splits, or another group"
        )
    if number < least:
        raise InputError(
            f"there are only {number} groups for data.splits.folds={least}: groups are never cut; lower it"
        )
    return groups


def strata(items: Sequence[Item], seed: int) -> list[list[int]]:
    """The indices of every stratum's items, shuffled."""
    members: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault(str(item.stratum), []).append(index)
    return [
        [own[i] for i in np.random.default_rng((seed, len(own))).permutation(len(own))]
        for _, own in sorted(members.items())
    ]


def nearest_share(parts: list[set[int]], goal: float) -> set[int]:
    """So many of the small parts that together they come nearest to `goal` items; one at least."""
    first, *others = sorted(parts, key=len)
    taken = set(first)
    for part in others[:-2]:  # the two largest stay behind, and can be divided once more
        if abs(len(taken) + len(part) - goal) < abs(len(taken) - goal):
            taken |= part
    return taken


def parts_of_groups(items: Sequence[Item], folds: int, seed: int, least: int = 2) -> list[set[int]]:
    """The indices of `folds` parts (of as many as there are groups, at most) of whole groups, strata as even as they can be."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and seldom needed

    groups = whole_groups(items, least)
    number = len(set(groups))
    counts = Counter(str(item.stratum) for item in items)
    kinds = [str(item.stratum) if counts[str(item.stratum)] >= folds else "rare" for item in items]
    kinds = kinds if Counter(kinds)["rare"] in (0, len(kinds)) or Counter(kinds)["rare"] >= folds else [""] * len(kinds)
    parts = StratifiedGroupKFold(min(folds, number), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some stratum has few members is no news to its owner
        found = parts.split(kinds, kinds if len(set(kinds)) > 1 else [0] * len(kinds), groups)
        return [set(taken.tolist()) for _, taken in found]


def pick(items: Sequence[Item], taken: set[int]) -> tuple[list[Item], list[Item]]:
    """The items that are not taken, and those that are, in their order."""
    return [x for i, x in enumerate(items) if i not in taken], [x for i, x in enumerate(items) if i in taken]
