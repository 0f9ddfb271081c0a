"""The results of a sweep to look at: a table on the console, best first, and Optuna's plots in ``sweep.png``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from foundation.storage.atomic import write_bytes
from resmet.sweeps.trial import Trial, best, ranked

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_ROWS = 40
MOST_AXES = 8
WIDTH = 140
"""Columns of a table that is not printed to a terminal."""

STYLES = {"done": "", "pruned": "yellow", "failed": "red", "refused": "red"}


def print_table(trials: Sequence[Trial], folder: Path) -> None:
    """Prints the trials, the messages of those that failed, and where the best one is."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    table = Table("trial", "state", "score", "test", "epochs", "seconds", *short_names(keys))
    for trial in ranked(trials)[:MOST_ROWS]:
        numbers = (four_digits(trial.score), four_digits(trial.test), str(trial.epochs), f"{trial.seconds:.0f}")
        values = (trial.values.get(key, "") for key in keys)
        table.add_row(str(trial.number), trial.status, *numbers, *values, style=STYLES.get(trial.status, "dim"))
    console.print(table)
    lines = [f"and {len(trials) - MOST_ROWS} more, see {folder}/sweep.csv"] if len(trials) > MOST_ROWS else []
    failed = [trial for trial in trials if trial.status in ("failed", "refused")]
    lines += [f"trial {t.number} {t.status} (exit code {t.code}): {t.message}" for t in failed]
    if first := best(trials):
        place = folder / str(first.number)
        lines.append(f"best: trial {first.number}, score {four_digits(first.score)}: {first.overrides} -> {place}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def four_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def short_names(keys: Sequence[str]) -> list[str]:
    """Returns the last section of every key, or the whole key if another ends alike."""
    lasts = [key.lstrip("+").rsplit(".", 1)[-1] for key in keys]
    return [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]


def write_plots(folder: Path, study: optuna.Study) -> None:
    """Writes ``sweep.png``, Optuna's plots of its study: scores by trial, by epoch and by swept key."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not trials:
        return
    import matplotlib as mpl
    from optuna.visualization import matplotlib as plots

    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # Optuna calls these functions experimental
        mpl.use("agg")
        images = [as_image(plots.plot_optimization_history(study, target_name="score"))]
        if any(trial.intermediate_values for trial in trials):
            images.append(as_image(plots.plot_intermediate_values(study)))
        if keys := list(trials[0].params)[:MOST_AXES]:
            images.append(as_image(plots.plot_slice(study, keys, target_name="score")))
        write_bytes(folder / "sweep.png", stack(images))


def as_image(axes: Any) -> Image:
    """Returns the figure of what Optuna drew, and closes it."""
    import matplotlib.pyplot as plt
    import PIL.Image

    figure = axes.flat[0].figure if hasattr(axes, "flat") else axes.figure
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return PIL.Image.open(buffer)


def stack(images: Sequence[Image]) -> bytes:
    """Returns images below each other, as a PNG."""
    import PIL.Image

    whole = PIL.Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    buffer = BytesIO()
    whole.save(buffer, format="png")
    return buffer.getvalue()
