"""The command that trains on a folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_class

from foundation.overrides import format_value
from foundation.storage.safe_load import read_yaml
from resmet.assembly import ROOT
from resmet.data_checks.checks.images import narrow_window
from resmet.data_checks.checks.labels import is_heavily_imbalanced
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.options import DoctorOptions
from tasks.base import Task


def train_command(options: DoctorOptions, context: CheckContext, settings: dict[str, Any]) -> str:
    """Returns the command that trains on this data, for a POSIX shell; empty if there is none.

    Args:
        options: What the user asked for.
        context: The folder.
        settings: Keys of the reader that the folder needs.
    """
    task = find_task(context)
    if not task or not context.usable:
        return ""
    overrides = [f"task={task}", f"data={context.guess.format}", f"data.root={format_value(options.root)}"]
    overrides += [f"data.{key}={format_value(value)}" for key, value in settings.items()] + options.overrides
    overrides += remedies(options, context)
    return " ".join(["python", "train.py", *map(shlex.quote, overrides)])


def find_task(context: CheckContext) -> str:
    """Returns the task of conf/task for this kind of target and number of axes, the most specific one; else ""."""
    if not context.data or not context.guess.format:
        return ""
    files = sorted((ROOT / "conf" / "task").glob("*.yaml"))
    tasks: dict[str, type[Task]] = {file.stem: get_class(read_yaml(file)["_target_"]) for file in files}
    fitting = {
        name: len(task.axes)
        for name, task in tasks.items()
        if context.data.target in task.targets and context.data.ndim in task.axes
    }
    return min(fitting, key=lambda name: fitting[name], default="")


def remedies(options: DoctorOptions, context: CheckContext) -> Iterator[str]:
    """Yields the keys that remedy findings: a window that few values stretch, heavy imbalance, unusable items."""
    window = narrow_window(context) if context.modality == "image" else ()
    if window and not options.sets("window"):
        yield f"data.window={format_value(list(window))}"
    if context.data and context.data.target == "label" and is_heavily_imbalanced(context):
        yield "task.class_weights=balanced"
    if context.unusable and not options.sets("on_error"):
        yield "data.on_error=skip"
