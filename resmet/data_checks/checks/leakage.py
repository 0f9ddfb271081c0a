"""Checks of leakage between splits: the same item, a near-duplicate, or the same patient, speaker or source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base.csv_columns import read_columns
from datamodules.splits.splits import Item
from foundation.structures import pluralize
from resmet.data_checks.checks.files import series_key
from resmet.data_checks.checks.near_duplicates import AUDIO, IMAGES, MIRRORED, Criterion, near_pairs, residuals
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding, found

MAX_LEAKAGE = 0.1  # fraction of val or test that is known from another split, above which its score is meaningless

Members = list[tuple[str, Item]]
"""Items that are the same, with their splits."""

T = TypeVar("T")
MAX_RATIO = 0.9  # of the residual of consecutive images to that of distant ones; below it a series is a sequence
DISTANT = (7, 11, 13)  # distances in a series at which images are taken to be unrelated
MIN_PAIRS = 10  # consecutive and distant pairs that the comparison needs
MAX_PAIRS = 4000  # pairs that are compared

Frame = tuple[str, str, NDArray[np.uint8]]
"""Split, name and thumbnail."""


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds duplicates and near-duplicates across splits, duplicates with different labels, and groups in two splits."""
    same = identical(context)
    yield from leaks(context, "leakage.duplicates", "identical", across_splits(same))
    similar = near(context, same, AUDIO if context.modality == "audio" else IMAGES)
    yield from leaks(context, "leakage.near_duplicates", "nearly identical", similar)
    if context.modality == "image":
        mirrored = near(context, same + similar, MIRRORED)
        yield from leaks(context, "leakage.mirrored_duplicates", "nearly identical (mirrored)", mirrored)
    yield from conflicting_labels(context, same)
    if within := [members for members in same if len({split for split, _ in members}) == 1]:
        message = f"{pluralize(sum(len(members) - 1 for members in within), 'duplicate')} within a split"
        where = (" = ".join(context.relative(item.name) for _, item in members[:2]) for members in within)
        yield Finding("leakage.duplicates_within_split", "note", message, tuple(where))
    yield from groups_across_splits(context)
    yield from sequences(context)


def identical(context: CheckContext) -> list[Members]:
    """Returns sets of items whose decoded content is equal bit by bit."""
    by_digest: dict[str, Members] = defaultdict(list)
    for split, item, facts in context.usable:
        by_digest[facts["digest"]].append((split, item))
    return [members for members in by_digest.values() if len(members) > 1]


def across_splits(same: list[Members]) -> list[Members]:
    """Returns the sets that more than one split has a part of."""
    return [members for members in same if len({split for split, _ in members}) > 1]


def near(context: CheckContext, known: list[Members], criterion: Criterion) -> list[Members]:
    """Returns pairs of near-duplicates in different splits that are not `known` already."""
    if not context.usable:
        return []
    reported = {frozenset((a.name, b.name)) for members in known for _, a in members for _, b in members}
    numbers = {split: number for number, split in enumerate(context.splits)}
    thumbnails = np.stack([facts["thumbnail"] for _, _, facts in context.usable])
    pairs = near_pairs(thumbnails, [numbers[split] for split, _, _ in context.usable], criterion)
    members = [[context.usable[index][:2] for index in pair] for pair in pairs]
    return [pair for pair in members if frozenset(item.name for _, item in pair) not in reported]


def leaks(context: CheckContext, code: str, what: str, sets: list[Members]) -> Iterator[Finding]:
    """Finds items of val or test that are in another split too."""
    if not sets:
        return
    leaked = {
        split: {item.name for members in sets for of_item, item in members if of_item == split}
        for split in context.splits
    }
    leaked.pop("train", None)
    fraction = max((len(names) / max(1, len(context.splits[split])) for split, names in leaked.items()), default=0.0)
    number = pluralize(sum(map(len, leaked.values())), "item")
    message = f"{number} of val or test {what} to one of another split: leakage, the score would be optimistic"
    first = (first_of_each(members, [split for split, _ in members]) for members in sets)
    where = (" = ".join(f"{split}: {context.relative(item.name)}" for split, item in members) for members in first)
    remedy = "remove the duplicates, or name a group column to keep them in one split"
    remedy = "remove them from one of the splits" if context.published else remedy
    yield Finding(code, "error" if fraction > MAX_LEAKAGE else "warning", message, tuple(where), remedy)


def first_of_each(members: Sequence[T], kinds: Sequence[Hashable]) -> list[T]:
    """Returns the first member of every kind, which is enough to show that they differ."""
    first: dict[Hashable, T] = {}
    for kind, member in zip(kinds, members, strict=True):
        first.setdefault(kind, member)
    return list(first.values())


def conflicting_labels(context: CheckContext, same: list[Members]) -> Iterator[Finding]:
    """Finds identical items with different labels."""
    if context.kind is None or not context.kind.whole_item:
        return
    where = []
    for members in same:
        labels = [tuple(sorted(context.facts[item.name]["class_counts"])) for _, item in members]
        if len(set(labels)) > 1:
            names = [", ".join(context.class_names[c] for c in classes) or "none" for classes in labels]
            shown = [f"{context.relative(item.name)} ({n})" for (_, item), n in zip(members, names, strict=True)]
            where.append(" = ".join(first_of_each(shown, labels)))
    remedy = "decide which label is right and remove the other item"
    yield from found("leakage.conflicting_labels", "warning", where, "item", "with two different labels", remedy)


def groups_across_splits(context: CheckContext) -> Iterator[Finding]:
    """Finds groups, such as patients, that are in two splits."""
    groups = groups_in_table(context)
    splits: dict[str, set[str]] = defaultdict(set)
    for split, items in context.splits.items():
        for item in items:
            if group := item.group or groups.get(item.name, ""):
                splits[str(group)].add(split)
    across = sorted(group for group, found_in in splits.items() if len(found_in) > 1)
    if across:
        table = context.guess.match.table
        column = table.columns.get("group", "group") if table else "group"
        keys = ["data.splits.published=false"] if context.published else []
        keys += [f"data.columns.group={column}"] if table else []
        what = f"the score doesn't tell how well the model does on a new {column}"
        message = f"{len(across)} of {pluralize(len(splits), 'group')} (column {column}) in two splits: {what}"
        remedy = "to measure that, keep every group in one split: " + " ".join(keys)
        yield Finding("leakage.groups_across_splits", "warning", message, tuple(across), remedy)


def groups_in_table(context: CheckContext) -> dict[str, str]:
    """Returns {item: group} from the CSV table, if it has a group column."""
    table = context.guess.match.table
    if table is None or "group" not in table.columns:
        return {}
    cells = read_columns(context.root / table.path)[table.columns["group"]]
    return {str(context.root / file): cell for file, cell in zip(table.files, cells, strict=True) if file}


def sequences(context: CheckContext) -> Iterator[Finding]:
    """Finds items of val or test that are numbered next to a training item, in series whose consecutive images look alike."""
    if context.modality != "image":
        return
    series: dict[tuple[str, str], dict[int, Frame]] = defaultdict(dict)
    for split, item, facts in context.usable:
        name = context.relative(item.name)
        if key := series_key(name):
            series[key[:2]][key[2]] = (split, name, facts["thumbnail"])
    near = [(image, s[n + 1]) for s in series.values() for n, image in s.items() if n + 1 in s]
    distant = [(image, s[n + k]) for s in series.values() for n, image in s.items() for k in DISTANT if n + k in s]
    if min(len(near), len(distant)) < MIN_PAIRS or median_residual(near) >= MAX_RATIO * median_residual(distant):
        return
    both_ways = [pair for image, other in near for pair in ((image, other), (other, image))]
    across = {image[1]: other[1] for image, other in both_ways if image[0] != "train" == other[0]}
    where = (f"{name} next to {other}" for name, other in across.items())
    what = (
        "of val or test numbered next to a training item, in a sequence whose consecutive images look alike (slices, frames): "
        "the score doesn't tell how well the model does on another sequence"
    )
    remedy = "to measure that, keep whole stretches of a sequence in one split"
    yield from found("sequences.consecutive_across_splits", "note", where, "item", what, remedy)


def median_residual(pairs: list[tuple[Frame, Frame]]) -> float:
    """Returns the median residual of the pairs' thumbnails, of at most `MAX_PAIRS` of them."""
    sample = pairs[:: 1 + len(pairs) // MAX_PAIRS]
    first, second = (np.stack([pair[k][2] for pair in sample]) for k in (0, 1))
    return float(np.median(residuals(first, second)))
