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


def train_command(options: DoctorOptions, context: CheckContext, settings: dict[str, Any]) -> str:
    """Returns the command that trains on this data, for a POSIX shell; empty if there is none."""
    task = find_task(options, context)
    if not task or not context.usable:
        return ""
    overrides = [f"task={task}", f"data={context.guess.format}", f"data.root={format_value(options.root)}"]
    overrides += [f"data.{key}={format_value(value)}" for key, value in settings.items()] + options.overrides
    overrides += remedies(options, context)
    return " ".join(["python", "train.py", *map(shlex.quote, overrides)])


def find_task(options: DoctorOptions, context: CheckContext) -> str:
    """Returns the task for this kind of target and number of axes, the most specific one; "" if there is none."""
    data = context.data
    if not data or not context.guess.format:
        return ""
    axes = {
        name: axes for name, (targets, axes) in options.tasks.items() if data.target in targets and data.ndim in axes
    }
    return min(axes, key=lambda name: (len(axes[name]), name), default="")


def remedies(options: DoctorOptions, context: CheckContext) -> Iterator[str]:
    """Yields the keys that remedy findings: a window that few values stretch, heavy imbalance, unusable items."""
    window = narrow_window(context) if context.modality == "image" else ()
    if window and not options.sets("window"):
        yield f"data.window={format_value(list(window))}"
    if context.data and context.data.target == "label" and is_heavily_imbalanced(context):
        yield "task.class_weights=balanced"
    if context.unusable and not options.sets("on_error"):
        yield "data.on_error=skip"
