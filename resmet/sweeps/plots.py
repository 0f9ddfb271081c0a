"""The results of a sweep to look at: a table on the console, best first, and Optuna's plots in ``sweep.png``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from foundation.storage.atomic import write_bytes
from resmet.sweeps.trial import Trial, ranked

MAX_ROWS = 40
MAX_AXES = 8
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
    lasts = [key.lstrip("+").rsplit(".", 1)[-1] for key in keys]
    names = [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]
    table = Table("trial", "state", "score", "test", "epochs", "seconds", *names)
    for trial in ranked(trials)[:MAX_ROWS]:
        numbers = (four_digits(trial.score), four_digits(trial.test), str(trial.epochs), f"{trial.seconds:.0f}")
        values = (trial.values.get(key, "") for key in keys)
        table.add_row(str(trial.number), trial.status, *numbers, *values, style=STYLES.get(trial.status, "dim"))
    console.print(table)
    lines = [f"and {len(trials) - MAX_ROWS} more, see {folder}/sweep.csv"] if len(trials) > MAX_ROWS else []
    failed = [trial for trial in trials if trial.status in ("failed", "refused")]
    lines += [f"trial {t.number} {t.status} (exit code {t.code}): {t.message}" for t in failed]
    if best := next((trial for trial in ranked(trials) if trial.status == "done" and trial.score is not None), None):
        place = folder / str(best.number)
        lines.append(f"best: trial {best.number}, score {best.score:.4f}: {best.overrides} -> {place}")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def four_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def write_plots(folder: Path, study: optuna.Study) -> None:
    """Writes ``sweep.png``, Optuna's plots of its study below each other: scores by trial, by epoch and by swept key."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not trials:
        return
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # Optuna calls these functions experimental
        mpl.use("agg")
        plots.plot_optimization_history(study, target_name="score")
        if any(trial.intermediate_values for trial in trials):
            plots.plot_intermediate_values(study)
        if keys := list(trials[0].params)[:MAX_AXES]:
            plots.plot_slice(study, keys, target_name="score")
        images = []
        for figure in map(plt.figure, plt.get_fignums()):
            figure.set_size_inches(14, 5)
            if len(figure.axes) == 1:  # else with a color bar, which would overlap
                figure.tight_layout()
            figure.canvas.draw()
            images.append(np.array(figure.canvas.buffer_rgba()))  # type: ignore[attr-defined]
        plt.close("all")
        buffer = BytesIO()
        plt.imsave(buffer, np.vstack(images))
    write_bytes(folder / "sweep.png", buffer.getvalue())
