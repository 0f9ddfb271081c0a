"""Checks of leakage between splits: the same item, a near-duplicate, or the same patient, speaker or source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from datamodules.base.csv_columns import read_columns
from datamodules.splits.splits import Item
from foundation.structures import pluralize
from resmet.data_checks.checks.near_duplicates import AUDIO, IMAGES, MIRRORED, Criterion, near_pairs
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding

MAX_LEAKAGE = 0.1  # share of val or test that is known from another split, above which its score is meaningless

Members = list[tuple[str, Item]]
"""Items that are the same, with their splits."""

T = TypeVar("T")


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
    within = [members for members in same if len({split for split, _ in members}) == 1]
    if within:
        yield Finding(
            "leakage.duplicates_within_split",
            "note",
            f"{pluralize(sum(len(members) - 1 for members in within), 'duplicate')} within a split",
            tuple(" = ".join(context.relative(item.name) for _, item in members[:2]) for members in within),
        )
    yield from groups_across_splits(context)


def identical(context: CheckContext) -> list[Members]:
    """Returns sets of items whose decoded content is equal bit by bit."""
    found: dict[str, Members] = defaultdict(list)
    for split, item, facts in context.usable:
        found[facts["digest"]].append((split, item))
    return [members for members in found.values() if len(members) > 1]


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
        split: {item.name for members in sets for own, item in members if own == split} for split in context.splits
    }
    leaked.pop("train", None)
    share = max((len(names) / max(1, len(context.splits[split])) for split, names in leaked.items()), default=0.0)
    number = pluralize(sum(map(len, leaked.values())), "item")
    yield Finding(
        code,
        "error" if share > MAX_LEAKAGE else "warning",
        f"{number} of val or test {what} to one of another split: leakage, the score would be optimistic",
        tuple(
            " = ".join(f"{s}: {context.relative(i.name)}" for s, i in first_of_each(m, [s for s, _ in m])) for m in sets
        ),
        "remove them from one of the splits"
        if context.published
        else "remove the duplicates, or name a group column to keep them in one split",
    )


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
            names = [", ".join(context.class_names[c] for c in own) or "none" for own in labels]
            shown = [f"{context.relative(item.name)} ({n})" for (_, item), n in zip(members, names, strict=True)]
            where.append(" = ".join(first_of_each(shown, labels)))
    if where:
        yield Finding(
            "leakage.conflicting_labels",
            "warning",
            f"{pluralize(len(where), 'item')} with two different labels",
            tuple(where),
            "decide which label is right and remove the other item",
        )


def groups_across_splits(context: CheckContext) -> Iterator[Finding]:
    """Finds groups, such as patients, that are in two splits."""
    groups = groups_in_table(context)
    splits: dict[str, set[str]] = defaultdict(set)
    for split, items in context.splits.items():
        for item in items:
            if group := item.group or groups.get(item.name, ""):
                splits[str(group)].add(split)
    across = sorted(group for group, own in splits.items() if len(own) > 1)
    if across:
        table = context.guess.match.table
        column = table.columns.get("group", "group") if table else "group"
        keys = ["data.splits.published=false"] if context.published else []
        keys += [f"data.columns.group={column}"] if table else []
        yield Finding(
            "leakage.groups_across_splits",
            "warning",
            f"{len(across)} of {pluralize(len(splits), 'group')} (column {column}) in two splits: the score doesn't tell "
            f"how well the model does on a new {column}",
            tuple(across),
            "to measure that, keep every group in one split: " + " ".join(keys),
        )


def groups_in_table(context: CheckContext) -> dict[str, str]:
    """Returns {item: group} from the CSV table, if it has a group column."""
    table = context.guess.match.table
    if table is None or "group" not in table.columns:
        return {}
    cells = read_columns(context.root / table.path)[table.columns["group"]]
    return {str(context.root / file): cell for file, cell in zip(table.files, cells, strict=True) if file}
