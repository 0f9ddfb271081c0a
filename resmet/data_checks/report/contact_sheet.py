"""A picture sheet of some items of every class, with their labels, as the net will be given them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.splits.splits import Item
from foundation.structures import Prediction
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
        answer = as_answer(target)
        title = f"{split}: {plots.caption(answer, data.spec)}"
        cells.append(partial(plots.show, signal=signal, answer=answer, spec=data.spec, title=title))
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


def as_answer(target: Any) -> Prediction:
    """A target in the form of a prediction, to be drawn like one."""
    if isinstance(target, dict):
        return target
    if not isinstance(target, torch.Tensor):
        return {"labels": torch.tensor([int(target)])}
    return {"mask": target} if target.ndim == 2 else {"labels": target.nonzero().flatten()}
