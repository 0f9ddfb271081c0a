"""The command that trains on a folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from foundation.overrides import format_value
from resmet.data_checks.checks.images import narrow_window
from resmet.data_checks.checks.labels import is_heavily_imbalanced
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.options import DoctorOptions

TASKS = {
    ("label", 1): "audio",
    ("labels", 1): "audio",
    ("label", 2): "classification",
    ("labels", 2): "classification",
    ("boxes", 2): "detection",
    ("mask", 2): "segmentation",
}
"""{(kind of target, axes of the input): choice of ``task=``}. The classes of conf/task have it too, but their import takes 3 s."""


def train_command(options: DoctorOptions, context: CheckContext, settings: dict[str, Any]) -> str:
    """Returns the command that trains on this data, for a POSIX shell; empty if there is none."""
    task = find_task(context)
    if not task or not context.usable:
        return ""
    overrides = [f"task={task}", f"data={context.guess.format}", f"data.root={format_value(options.root)}"]
    overrides += [f"data.{key}={format_value(value)}" for key, value in settings.items()] + options.overrides
    overrides += remedies(options, context)
    return " ".join(["python", "train.py", *map(shlex.quote, overrides)])


def find_task(context: CheckContext) -> str:
    """Returns the task for this kind of target and number of axes; "" if there is none."""
    data = context.data
    return TASKS.get((data.target, data.ndim), "") if data and context.guess.format else ""


def remedies(options: DoctorOptions, context: CheckContext) -> Iterator[str]:
    """Yields the keys that remedy findings: a window that few values stretch, heavy imbalance, unusable items."""
    window = narrow_window(context) if context.modality == "image" else ()
    if window and not options.sets("window"):
        yield f"data.window={format_value(list(window))}"
    if context.data and context.data.target == "label" and is_heavily_imbalanced(context):
        yield "task.class_weights=balanced"
    if context.unusable and not options.sets("on_error"):
        yield "data.on_error=skip"
