"""What is in two splits at once: the same item, nearly the same, or the same patient, speaker, source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from datamodules.splits.splits import Item
from resmet.data_checks.checks.near_duplicates import BANDS, IMAGES, MIRRORED, SIDE, SOUNDS, TIMES, Measure, near_pairs
from resmet.data_checks.model.context import Chart, classes_of
from resmet.data_checks.model.finding import Finding, count
from resmet.data_checks.scan.csv_columns import read_columns

LEAK = 0.1  # share of val or test that is known from training, from which a score is no score


def findings(chart: Chart) -> Iterator[Finding]:
    """Identical and near-identical items across splits, one item under two labels, groups in two splits."""
    if not chart.data:
        return
    same = identical(chart)
    across = [members for members in same if len({split for split, _ in members}) > 1]
    yield from leaks(chart, across, "identical")
    alike = near(chart, same, SOUNDS if chart.guess.family == "sound" else IMAGES)
    yield from leaks(chart, alike, "near-identical")
    if chart.guess.family == "picture":
        yield from leaks(chart, near(chart, same + alike, MIRRORED), "near-identical, but for being mirrored,")
    yield from contradictions(chart, same)
    inside = [[item.name for _, item in members] for members in same if len({split for split, _ in members}) == 1]
    if inside:
        spare = sum(len(names) - 1 for names in inside)
        yield Finding(
            "note",
            f"{count(spare, 'item is', 'items are')} there twice within a split",
            tuple(" = ".join(map(chart.shown, names[:2])) for names in inside),
        )
    yield from groups(chart)


Members = list[tuple[str, Item]]
T = TypeVar("T")


def one_each(members: Sequence[T], kinds: Sequence[Hashable]) -> list[T]:
    """The first member of every kind, which is all that it takes to show that they differ."""
    first: dict[Hashable, T] = {}
    for kind, member in zip(kinds, members, strict=True):
        first.setdefault(kind, member)
    return list(first.values())


def identical(chart: Chart) -> list[Members]:
    """Sets of items whose content is the same to the last bit, with their splits."""
    found: dict[str, Members] = defaultdict(list)
    for split, item, facts in chart.seen():
        found[facts["digest"]].append((split, item))
    return [members for members in found.values() if len(members) > 1]


def near(chart: Chart, same: list[Members], measure: Measure) -> list[Members]:
    """Pairs of items in different splits that are nearly the same, those that are known to be the `same` left out."""
    known = {frozenset((a.name, b.name)) for members in same for _, a in members for _, b in members}
    seen = [(split, item, facts["thumb"]) for split, item, facts in chart.seen() if "thumb" in facts]
    if not seen:
        return []
    thumbs = np.stack([np.frombuffer(thumb, np.uint8) for _, _, thumb in seen])
    thumbs = thumbs.reshape(-1, *((BANDS, TIMES) if chart.guess.family == "sound" else (SIDE, SIDE)))
    order = list(chart.splits)
    pairs = near_pairs(thumbs, [order.index(split) for split, _, _ in seen], measure)
    return [[seen[i][:2], seen[j][:2]] for i, j in pairs if frozenset((seen[i][1].name, seen[j][1].name)) not in known]


def leaks(chart: Chart, across: list[Members], word: str) -> Iterator[Finding]:
    """Items of val or test that are in another split too."""
    if not across:
        return
    held = {item.name for members in across for split, item in members if split != "train"}
    judged = {split: len(items) for split, items in chart.splits.items() if split != "train"}
    share = max(
        (
            len({item.name for members in across for s, item in members if s == split}) / max(1, number)
            for split, number in judged.items()
        ),
        default=0.0,
    )
    where = tuple(
        " = ".join(f"{split}: {chart.shown(item.name)}" for split, item in one_each(members, [s for s, _ in members]))
        for members in across
    )
    remedy = (
        "remove them from one of the splits"
        if chart.published
        else "remove the copies, or name a group column so that they stay together"
    )
    yield Finding(
        "error" if share > LEAK else "warning",
        f"{count(len(held), 'item')} of val or test {'is' if len(held) == 1 else 'are'} {word} to one of another split: the score would flatter",
        where,
        remedy,
    )


def contradictions(chart: Chart, same: list[Members]) -> Iterator[Finding]:
    """The same picture or sound under two labels."""
    if not chart.data or chart.data.kind not in ("label", "labels"):
        return
    names = chart.class_names
    where = []
    for members in same:
        labels = [tuple(sorted(classes_of(item.target, chart.facts[item.name]))) for _, item in members]
        if len(set(labels)) > 1:
            said = [
                f"{chart.shown(item.name)} ({', '.join(names[i] for i in label) or 'none'})"
                for (_, item), label in zip(members, labels, strict=True)
            ]
            where.append(" = ".join(one_each(said, labels)))
    if where:
        yield Finding(
            "warning",
            f"{count(len(where), 'item carries', 'items carry')} two different labels",
            tuple(where),
            "decide which is right and remove the other",
        )


def groups(chart: Chart) -> Iterator[Finding]:
    """Members of one group in two splits."""
    belongs = group_of(chart)
    found: dict[str, set[str]] = defaultdict(set)
    for split, items in chart.splits.items():
        for item in items:
            if group := item.group or belongs.get(item.name, ""):
                found[str(group)].add(split)
    torn = sorted(group for group, splits in found.items() if len(splits) > 1)
    if torn:
        column = chart.guess.table.columns.get("group", "group") if chart.guess.table else "group"
        keys = ["data.splits.published=false"] if chart.published else []
        keys += [f"data.columns.group={column}"] if chart.guess.table else []
        yield Finding(
            "warning",
            f"{len(torn)} of {count(len(found), 'group')} (column {column}) {'is' if len(torn) == 1 else 'are'} in two splits: the score says nothing about a new {column}",
            tuple(torn),
            "to judge that, keep every group in one split: " + " ".join(keys),
        )


def group_of(chart: Chart) -> dict[str, str]:
    """{item: group} from the table, where it has a column that sounds like a group."""
    table = chart.guess.table
    if table is None or "group" not in table.columns:
        return {}
    cells = read_columns(chart.root / table.path)[table.columns["group"]]
    return {str(chart.root / file): cell for file, cell in zip(table.files, cells, strict=True) if file}
