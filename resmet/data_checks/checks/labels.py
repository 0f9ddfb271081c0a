"""Labels of any kind: how many of each class there are, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from resmet.data_checks.model.context import Chart, classes_of
from resmet.data_checks.model.finding import Finding, count, listed

UNEVEN = {"label": 10, "labels": 20, "boxes": 20, "mask": 50}
"""How many times the commonest class may outnumber the rarest: heavy imbalance begins above it."""

FEW = 5  # items of a class below which it can hardly be learned


def findings(chart: Chart) -> Iterator[Finding]:
    """Imbalance, classes with few or no items, items without a label, splits that are made rather than published."""
    if not chart.data or not chart.class_names or chart.guess.family == "video":
        return
    for split in ("train", "val"):
        if not chart.splits.get(split):
            yield Finding("error", f"there is no item to use as {split}", todo="give more data, or another data.splits")
    yield from imbalance(chart)
    yield from absent(chart)
    yield from unlabelled(chart)
    made = [split for split in ("val", "test") if split in chart.splits and split not in chart.published]
    if made:
        numbers = ", ".join(f"{count(len(chart.splits[split]), 'item')} as {split}" for split in made)
        yield Finding("note", f"the data has no split for {' and '.join(made)}: training takes {numbers}, by seed")
    if "test" not in chart.splits:
        yield Finding(
            "note", "there is no test split: after training, the validation items are what the result is judged by"
        )


def imbalance(chart: Chart) -> Iterator[Finding]:
    kind = chart.data.kind if chart.data else "label"
    numbers = numbers_of(chart)
    what = {"boxes": "boxes", "mask": "pixels"}.get(kind, "items")
    few = {name: number for name, number in numbers.items() if number < FEW and kind != "mask"}
    if few:
        said = listed([f"{name} {number}" for name, number in sorted(few.items(), key=lambda pair: pair[1])])
        yield Finding(
            "warning",
            f"{count(len(few), 'class has', 'classes have')} fewer than {FEW} training {what}: {said}",
            todo="gather more, or leave these classes out",
        )
    if len(numbers) < 2:
        return
    most, least = max(numbers, key=lambda name: numbers[name]), min(numbers, key=lambda name: numbers[name])
    ratio = ratio_of(numbers)
    said = f"{most} has {ratio:.0f} times the training {what} of {least} ({numbers[most]:,} and {numbers[least]:,})"
    if ratio > UNEVEN[kind]:
        yield Finding(
            "warning",
            f"heavy imbalance: {said}",
            todo="judge by the figures of each class rather than by one number; gather more of the rare ones or weigh them"
            + (", as the command below does" if kind == "label" else ""),
        )
    elif ratio > 3:
        yield Finding("note", f"uneven classes: {said}")


def numbers_of(chart: Chart) -> dict[str, int]:
    """{class: training items, boxes or pixels of it}, the background left out."""
    return {
        chart.class_names[label]: number
        for label, number in chart.classes().get("train", {}).items()
        if label < len(chart.class_names) and chart.class_names[label] != "background"
    }


def ratio_of(numbers: dict[str, int]) -> float:
    """How many times the commonest class outnumbers the rarest."""
    return max(numbers.values(), default=1) / max(1, min(numbers.values(), default=1))


def heavy(chart: Chart) -> bool:
    """Whether one class outnumbers another so far that training should know."""
    return chart.data is not None and ratio_of(numbers_of(chart)) > UNEVEN[chart.data.kind]


def absent(chart: Chart) -> Iterator[Finding]:
    """Classes that a split lacks."""
    known = chart.classes().get("train", Counter())
    for split, found in chart.classes().items():
        names = [name for label, name in enumerate(chart.class_names) if split == "train" or known[label]]
        lost = [name for name in names if not found[chart.class_names.index(name)] and name != "background"]
        if lost and split == "train":
            yield Finding(
                "warning",
                f"{count(len(lost), 'class is', 'classes are')} never seen in training: {listed(lost)}",
                todo="add training items or take the class out",
            )
        elif lost:
            yield Finding(
                "warning",
                f"{split} has no item of {listed(lost)}: nothing is known about how well {'it is' if len(lost) == 1 else 'they are'} learned",
                todo=f"add items to {split}, or make the splits anew",
            )


def unlabelled(chart: Chart) -> Iterator[Finding]:
    """Items that carry nothing: pictures without a box, masks of background alone, no class of several."""
    if not chart.data or chart.data.kind == "label":
        return
    background = {
        label for label, name in enumerate(chart.class_names) if name == "background" and chart.data.kind == "mask"
    }
    empty = [
        chart.shown(item.name)
        for _, item, facts in chart.seen()
        if not {label for label, number in classes_of(item.target, facts).items() if number} - background
    ]
    total = sum(1 for _ in chart.seen())
    if empty:
        severity = "warning" if 2 * len(empty) > total else "note"
        words = {"boxes": "no box", "mask": "nothing but background", "labels": "no class"}[chart.data.kind]
        yield Finding(
            severity,
            f"{count(len(empty), 'item has', 'items have')} {words}: right where there is nothing to find, wrong where somebody forgot",
            tuple(empty),
        )
