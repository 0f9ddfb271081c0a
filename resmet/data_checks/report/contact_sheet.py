"""A picture sheet of some items of every class, with their labels, as the net will be given them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from datamodules.splits.splits import Item
from foundation.targets.kinds import TARGETS
from foundation.visualization import plots
from resmet.data_checks.model.context import Chart, classes_of

SHOWN = 16


def draw(chart: Chart, path: Path) -> None:
    """Write the sheet of `chart` as a PNG."""
    data = chart.data
    if data is None:
        return
    cells = []
    for split, item in choose(chart):
        signal, target = data.load(item)
        kind = TARGETS[data.spec.target]
        shown = kind.as_prediction(target)
        title = f"{split}: {kind.describe(shown, data.spec.class_names)}"
        cells.append(partial(plots.show, signal=signal, prediction=shown, spec=data.spec, title=title))
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.sheet(cells, data.spec), path)


def choose(chart: Chart) -> list[tuple[str, Item]]:
    """Up to `SHOWN` items, class after class in turn, so that the rare ones are there too."""
    waiting: dict[int, list[tuple[str, Item]]] = {}
    for split, item, facts in chart.seen():
        rarest = min(classes_of(item.target, facts), default=-1)
        waiting.setdefault(rarest, []).append((split, item))
    chosen: list[tuple[str, Item]] = []
    queues = [members[:: max(1, len(members) // SHOWN)] for _, members in sorted(waiting.items())]
    while queues and len(chosen) < SHOWN:
        chosen += [queue.pop(0) for queue in queues][: SHOWN - len(chosen)]
        queues = [queue for queue in queues if queue]
    return chosen
