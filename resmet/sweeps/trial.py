"""One trial of a sweep: its values, its status and its results; and ``sweep.csv``, a row a trial."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from foundation.storage.atomic import write_text

Status = Literal["running", "done", "pruned", "failed", "refused", "stopped"]
STATUSES = get_args(Status)


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes:
        number: From 0; also its folder's name.
        values: The value of every swept key, as text in Hydra's grammar.
        status: ``refused`` is exit code 2 (what was asked can't be done); ``stopped`` by a signal, to be resumed.
        code: Its exit code, negative for a signal's number; None before its end.
        message: The last line of its standard error, if it failed.
        score: The best validation score (the run's only score if there is no validation), or None.
        test: The test score. Nothing is chosen by it.
        epochs: That it finished.
        seconds: That it ran, over all starts.
        job: Its number in the queue, if it was queued.
    """

    number: int
    values: dict[str, str]
    status: Status = "running"
    code: int | None = None
    message: str = ""
    score: float | None = None
    test: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    job: str | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("running", "stopped")

    @property
    def overrides(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values.items())


def with_results(trial: Trial, folder: Path) -> Trial:
    """Returns `trial` with the scores and epochs that its run has left in `folder` so far."""
    scores = validation_scores(folder)
    epochs = max(scores, default=0)
    score = max(filter(math.isfinite, scores.values()), default=None)
    if not (folder / "metrics.json").is_file():
        return replace(trial, epochs=epochs, score=score)
    metrics = read_metrics(folder)
    best = (metrics.get("val") or {}).get("score")
    return replace(
        trial,
        epochs=metrics.get("epochs") or epochs,
        score=metrics.get("score") if best is None else best,
        test=(metrics.get("test") or {}).get("score"),
    )


def read_metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def validation_scores(folder: Path) -> dict[int, float]:
    """Returns {epoch: score} of the epochs in ``metrics.csv`` that were validated."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {int(row["epoch"]): float(row["val/score"]) for row in csv.DictReader(file) if row.get("val/score")}


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials, best first; those without a score, or unfinished, come last."""
    return sorted(trials, key=lambda t: (t.status != "done", t.score is None, -(t.score or 0.0), t.number))


def write_csv(folder: Path, trials: Sequence[Trial]) -> None:
    """Writes ``sweep.csv``, in the order of the trials' numbers."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["number", "state", "score", "test", "epochs", "seconds", *keys, "code", "message"])
    for trial in trials:
        row = [trial.number, trial.status, trial.score, trial.test, trial.epochs, round(trial.seconds, 1)]
        writer.writerow([*row, *(trial.values.get(key, "") for key in keys), trial.code, trial.message])
    write_text(folder / "sweep.csv", buffer.getvalue())
