"""What a sweep came to, to look at: a table on the console, best first, and ``sweep.png``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.storage.atomic import write_bytes
from resmet.sweeps.search_space import Axis, Space
from resmet.sweeps.trial import DONE, FAILED, PRUNED, REFUSED, RUNNING, STOPPED, Trial, best, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MOST_PANELS = 12
MOST_ROWS = 40
WIDE = 140  # columns of a table that no terminal sets a limit to
COLOURS = {DONE: "tab:blue", PRUNED: "tab:orange", STOPPED: "tab:grey", RUNNING: "tab:grey"}
STYLES = {DONE: "", PRUNED: "yellow", FAILED: "red", REFUSED: "red"}
NAMES = {DONE: "done", PRUNED: "pruned (best epoch)", STOPPED: "unfinished (best epoch)"}


def show(trials: Sequence[Trial], folder: Path) -> None:
    """Print the table, and where the best trial lies."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    table = Table("trial", "state", "score", "test", "epochs", "seconds", *short(keys))
    for trial in ranked(trials)[:MOST_ROWS]:
        figures = (figure(trial.score), figure(trial.test), str(trial.epochs), f"{trial.seconds:.0f}")
        chosen = (brief(trial.values.get(key, "")) for key in keys)
        table.add_row(str(trial.number), trial.state, *figures, *chosen, style=STYLES.get(trial.state, "dim"))
    console.print(table)
    if len(trials) > MOST_ROWS:
        console.print(f"and {len(trials) - MOST_ROWS} more, see {folder}/sweep.csv")
    for trial in trials:
        if trial.state in (FAILED, REFUSED):
            said = f"trial {trial.number} {trial.state} (exit code {trial.code}): {trial.said}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    if first := best(trials):
        said = f"best: trial {first.number}, score {figure(first.score)}: {first.words} -> {folder / str(first.number)}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def brief(text: str) -> str:
    """A value with four digits, where it is a number with more."""
    number = as_number(text)
    return text if number is None or len(text) < 8 else f"{number:.4g}"


def as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def short(keys: Sequence[str]) -> list[str]:
    """The last part of every key, where that tells it from the others."""
    lasts = [key.lstrip("+").rsplit(".", 1)[-1] for key in keys]
    return [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]


def write_chart(folder: Path, trials: Sequence[Trial], space: Space) -> None:
    """``sweep.png``: the score by trial, and against every swept key. Nothing is drawn before there is a score."""
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return
    from matplotlib.figure import Figure

    axes_shown = space.axes[: MOST_PANELS - 1]
    panels = 1 + len(axes_shown)
    columns = 2 if panels == 4 else min(COLUMNS, panels)
    rows = -(-panels // columns)
    drawing = Figure(figsize=(4.2 * columns, 3.3 * rows + 0.4), layout="constrained")
    grid = list(drawing.subplots(rows, columns, squeeze=False).flatten())
    by_trial(grid[0], trials)
    for panel, axis, name in zip(grid[1:], axes_shown, short([a.key for a in axes_shown]), strict=False):
        by_value(panel, scored, axis)
        panel.set_title(name, fontsize=10)
    for panel in grid[panels:]:
        panel.axis("off")
    for panel in grid[:panels]:
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    for panel in grid[:panels:columns]:
        panel.set_ylabel("score", fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    save(drawing, folder / "sweep.png")


def by_trial(panel: Axes, trials: Sequence[Trial]) -> None:
    """Scores in the order of the trials, with the best so far; what has none is marked at the foot."""
    from matplotlib.ticker import MaxNLocator

    scored = [trial for trial in trials if trial.score is not None]
    for state, name in NAMES.items():
        chosen = [t for t in scored if (STOPPED if t.state in (RUNNING, FAILED, REFUSED) else t.state) == state]
        if chosen:
            dots(panel, [t.number for t in chosen], chosen, COLOURS[state], name)
    done = [trial for trial in scored if trial.state == DONE]
    if len(done) > 1:
        highest = [max(t.score or -math.inf for t in done[: i + 1]) for i in range(len(done))]
        numbers = [trial.number for trial in done]
        panel.step(numbers, highest, where="post", color="tab:blue", linewidth=1, alpha=0.5, label="best so far")
    lost = [trial.number for trial in trials if trial.state in (FAILED, REFUSED)]
    if lost:
        foot = [0.02] * len(lost)
        panel.plot(
            lost, foot, "x", color="tab:red", transform=panel.get_xaxis_transform(), label="failed", markersize=6
        )
    crown(panel, trials, lambda trial: trial.number, "best")
    panel.set_title("trial", fontsize=10)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlim(-0.7, max(trial.number for trial in trials) + 0.7)


def by_value(panel: Axes, scored: Sequence[Trial], axis: Axis) -> None:
    """Scores against the values of one key: along a scale where they are numbers, else side by side with their mean."""
    numbers = {trial.number: as_number(trial.values.get(axis.key, "")) for trial in scored}
    if all(value is not None for value in numbers.values()) and len(set(numbers.values())) > 2:
        places: dict[int, Any] = dict(numbers)
        far = bool(axis.values) and min(places.values()) > 0 and max(places.values()) >= 30 * min(places.values())
        if axis.log or far:
            panel.set_xscale("log")
    else:
        places = side_by_side(panel, scored, axis)
    for state in (STOPPED, PRUNED, DONE):
        chosen = [t for t in scored if (t.state if t.state in (DONE, PRUNED) else STOPPED) == state]
        dots(panel, [places[t.number] for t in chosen], chosen, COLOURS[state])
    crown(panel, scored, lambda trial: places[trial.number])


def side_by_side(panel: Axes, scored: Sequence[Trial], axis: Axis) -> dict[int, float]:
    """A place for every trial: a column a value, within it the earlier ones to the left."""
    found = dict.fromkeys(trial.values.get(axis.key, "") for trial in scored)
    names = [value for value in axis.values if value in found] or list(found)
    places: dict[int, float] = {}
    for column, name in enumerate(names):
        members = [trial for trial in scored if trial.values.get(axis.key, "") == name]
        for i, trial in enumerate(members):
            places[trial.number] = column + (0.5 * (i + 0.5) / len(members) - 0.25 if len(members) > 1 else 0)
        done = [trial.score for trial in members if trial.state == DONE and trial.score is not None]
        if len(done) > 1:
            mean = sum(done) / len(done)
            panel.hlines(mean, column - 0.32, column + 0.32, color="tab:blue", alpha=0.5, linewidth=1.5)
    slanted = sum(len(name) for name in names) > 36
    panel.set_xticks(
        range(len(names)),
        [name[:28] for name in names],
        rotation=25 if slanted else 0,
        ha="right" if slanted else "center",
    )
    panel.set_xlim(-0.6, len(names) - 0.4)
    return places


def dots(panel: Axes, places: Sequence[float], trials: Sequence[Trial], color: str, name: str | None = None) -> None:
    """Full where the trial is done, else hollow."""
    face = color if name in (None, NAMES[DONE]) and all(t.state == DONE for t in trials) else "none"
    panel.scatter(
        places, [t.score or 0.0 for t in trials], s=26, facecolors=face, edgecolors=color, label=name, zorder=3
    )


def crown(panel: Axes, trials: Sequence[Trial], place: Any, name: str | None = None) -> None:
    """Mark the best trial."""
    if chosen := best(trials):
        panel.scatter(
            [place(chosen)], [chosen.score or 0.0], s=120, marker="*", color="gold", edgecolors="black", linewidths=0.8,
            label=name, zorder=4,
        )  # fmt: skip


def save(drawing: Any, path: Path) -> None:
    """Write a PNG whole or not at all."""
    buffer = BytesIO()
    drawing.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())
