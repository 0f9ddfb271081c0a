"""Checks of the class distribution and of the splits, for every kind of target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from foundation.structures import pluralize
from foundation.targets.base import TargetKind
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding, join_first

UNEVEN = 3  # ratio of the most to the least frequent class above which it is worth a note
MIN_ITEMS = 5  # training items or boxes that a class needs to be learned at all


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds missing splits, imbalance, classes with few or no items, and items without a label."""
    if context.kind is None or not context.class_names or context.modality == "video":
        return
    for split in ("train", "val"):
        if not context.splits.get(split):
            message = f"no item in the {split} split"
            yield Finding("labels.empty_split", "error", message, remedy="add data, or change data.splits")
    yield from few_items(context, context.kind)
    yield from imbalance(context, context.kind)
    yield from missing_classes(context)
    yield from unlabeled_items(context, context.kind)
    yield from made_splits(context)


def few_items(context: CheckContext, kind: TargetKind) -> Iterator[Finding]:
    """Finds classes that have too few training items or boxes to be learned."""
    few = sorted((number, name) for name, number in training_counts(context).items() if number < MIN_ITEMS)
    if few and kind.units != "pixels":
        shown = join_first([f"{name} ({number})" for number, name in few])
        yield Finding(
            "labels.few_items",
            "warning",
            f"{pluralize(len(few), 'class', 'classes')} with fewer than {MIN_ITEMS} training {kind.units}: {shown}",
            remedy="collect more, or leave these classes out",
        )


def imbalance(context: CheckContext, kind: TargetKind) -> Iterator[Finding]:
    """Finds classes of very different frequency in the training split."""
    counts = training_counts(context)
    ratio = imbalance_ratio(counts)
    if len(counts) < 2 or ratio <= UNEVEN:
        return
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    numbers = f"{counts[most]:,} and {counts[least]:,} training {kind.units}"
    message = f"{most} is {ratio:.0f} times as frequent as {least} ({numbers})"
    if ratio <= kind.max_imbalance:
        yield Finding("labels.uneven_classes", "note", f"uneven classes: {message}")
        return
    weighting = ", as the command below does" if kind.name == "label" else ""
    yield Finding(
        "labels.imbalance",
        "warning",
        f"heavy class imbalance: {message}",
        remedy=f"evaluate by per-class metrics; collect more of the rare classes or weight them{weighting}",
    )


def training_counts(context: CheckContext) -> dict[str, int]:
    """Returns {class: its training items, boxes or pixels} of the classes that occur, without the background."""
    counts = context.class_counts.get("train", Counter())
    return {context.class_names[c]: n for c, n in counts.items() if n and context.class_names[c] != "background"}


def imbalance_ratio(counts: dict[str, int]) -> float:
    """Returns the ratio of the most to the least frequent class."""
    return max(counts.values(), default=1) / min(counts.values(), default=1)


def is_heavily_imbalanced(context: CheckContext) -> bool:
    """Whether the training classes are so uneven that the loss should be weighted."""
    return context.kind is not None and imbalance_ratio(training_counts(context)) > context.kind.max_imbalance


def missing_classes(context: CheckContext) -> Iterator[Finding]:
    """Finds classes without an item in training, and classes that are trained but never evaluated."""
    names = {label: name for label, name in enumerate(context.class_names) if name != "background"}
    trained = context.class_counts.get("train", Counter())
    for split, counts in context.class_counts.items():
        missing = [name for c, name in names.items() if not counts[c] and (split == "train" or trained[c])]
        if missing and split == "train":
            message = f"{pluralize(len(missing), 'class', 'classes')} without a training item: {join_first(missing)}"
            remedy = "add training items or remove the class"
            yield Finding("labels.missing_class", "warning", message, remedy=remedy)
        elif missing:
            message = f"no {split} item of {join_first(missing)}: the {split} metrics say nothing about that"
            remedy = f"add items to {split}, or split the data again"
            yield Finding("labels.missing_class_in_split", "warning", message, remedy=remedy)


def unlabeled_items(context: CheckContext, kind: TargetKind) -> Iterator[Finding]:
    """Finds images without boxes, masks of background only, and items of no class."""
    background = context.class_names.index("background") if "background" in context.class_names else -1
    background = background if kind.name == "mask" else -1
    empty = tuple(
        context.relative(item.name)
        for _, item, facts in context.usable
        if not any(number for c, number in facts["class_counts"].items() if c != background)
    )
    if empty:
        severity = "warning" if 2 * len(empty) > len(context.usable) else "note"
        message = f"{pluralize(len(empty), 'item')} with {kind.empty}: fine if there is nothing to find, a fault if it was forgotten"
        yield Finding("labels.unlabeled_items", severity, message, empty)


def made_splits(context: CheckContext) -> Iterator[Finding]:
    """Notes the splits that the data does not come with."""
    made = [split for split in ("val", "test") if split in context.splits and split not in context.published]
    if made:
        numbers = ", ".join(f"{pluralize(len(context.splits[split]), 'item')} as {split}" for split in made)
        message = f"the data has no {' and no '.join(made)} split: training takes {numbers}, chosen by the seed"
        yield Finding("labels.made_splits", "note", message)
    if "test" not in context.splits:
        message = "no test split: the final result is measured on the validation items"
        yield Finding("labels.no_test_split", "note", message)
