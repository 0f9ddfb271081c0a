"""The command that trains on a folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from resmet.data_checks.checks.images import narrower
from resmet.data_checks.checks.labels import heavy
from resmet.data_checks.checks.videos import Clips
from resmet.data_checks.model.context import Chart
from resmet.data_checks.run.arguments import quoted
from resmet.data_checks.run.scan import Order

TASKS = {
    ("label", 2): "classification",
    ("labels", 2): "classification",
    ("boxes", 2): "detection",
    ("mask", 2): "segmentation",
    ("label", 1): "audio",
    ("labels", 1): "audio",
}


PLAIN = re.compile(r"[\w./:@%+-]+")
"""Text that needs no quotes in Hydra's grammar."""


def command_line(order: Order, chart: Chart, settings: dict[str, Any]) -> str:
    """The command that trains on this data, to be pasted into a shell; "" where there is none."""
    if not chart.data or isinstance(chart.data, Clips) or not any(True for _ in chart.seen()):
        return ""
    words = [f"task={task_of(chart)}", f"data={chart.guess.format}", f"data.root={flow(order.root)}"]
    words += [f"data.{key}={flow(value)}" for key, value in settings.items()] + order.said
    words += remedies(order, chart)
    if any("error" in facts for facts in chart.facts.values()) or chart.data.skipped:
        words += [] if any(word.startswith("data.on_error=") for word in order.said) else ["data.on_error=skip"]
    return " ".join(["python", "train.py", *map(shlex.quote, words)])


def remedies(order: Order, chart: Chart) -> Iterator[str]:
    """What was found and a key can mend: a window that a few values stretch, classes of which one outnumbers another."""
    window = narrower(chart) if chart.guess.family == "picture" else ()
    if window and not any(word.startswith("data.window=") for word in order.said):
        yield f"data.window=[{','.join(f'{value:g}' for value in window)}]"
    if chart.data and chart.data.kind == "label" and heavy(chart):
        yield "task.class_weights=balanced"


def task_of(chart: Chart) -> str:
    return TASKS[chart.data.kind, chart.data.ndim] if chart.data and chart.guess.format else ""


def flow(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(flow, value)) + "]"
    return quoted(value) if isinstance(value, str) and not PLAIN.fullmatch(value) else str(value)
