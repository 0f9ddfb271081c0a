"""The contact sheet: some items of every class with their labels, as the model gets them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from datamodules.splits.splits import Item
from foundation.visualization import plots
from resmet.data_checks.model.context import CheckContext

MAX_ITEMS = 16


def draw(context: CheckContext, path: Path) -> None:
    """Writes the contact sheet as a PNG.

    Raises:
        OSError: If it can't be written.
    """
    data, kind = context.data, context.kind
    if data is None or kind is None:
        return
    cells = []
    for split, item in choose_items(context):
        signal, target = data.load(item)
        labels = kind.as_prediction(target)
        title = f"{split}: {kind.describe(labels, data.spec.class_names)}"
        cells.append(partial(plots.show, signal=signal, prediction=labels, spec=data.spec, title=title))
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.grid(cells, data.spec), path)


def choose_items(context: CheckContext) -> list[tuple[str, Item]]:
    """Returns up to `MAX_ITEMS` items, the classes in turn, so that rare ones are included."""
    by_class: dict[int, list[tuple[str, Item]]] = {}
    for split, item, facts in context.usable:
        by_class.setdefault(min(facts["class_counts"], default=-1), []).append((split, item))
    queues = [members[:: max(1, len(members) // MAX_ITEMS)] for _, members in sorted(by_class.items())]
    chosen: list[tuple[str, Item]] = []
    while queues and len(chosen) < MAX_ITEMS:
        chosen += [queue.pop(0) for queue in queues][: MAX_ITEMS - len(chosen)]
        queues = [queue for queue in queues if queue]
    return chosen
