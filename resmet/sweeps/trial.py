"""One trial of a sweep: what it was given, how it stands, what came of it; and the files that keep that."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foundation.storage.atomic import write_json, write_text
from foundation.structures import InputError, first_line

RUNNING, DONE, PRUNED, FAILED, REFUSED, STOPPED = "running", "done", "pruned", "failed", "refused", "stopped"


STATES = {RUNNING, DONE, PRUNED, FAILED, REFUSED, STOPPED}


@dataclass
class Trial:
    """A row of a sweep.

    Attributes:
        number: From 0 on; also its folder's name.
        values: What was chosen for every swept key, as text of Hydra's grammar.
        state: ``running``; ``done``; ``pruned``, ended as hopeless; ``failed``; ``refused`` (what was asked can't be
            done); ``stopped`` by a signal, to go on with.
        code: Its exit code, negative for a signal's number; None before its end.
        said: The last thing that it said, where it went wrong.
        score: The best validation score (the run's only score where there is no validation), None where there is none.
        test: The test score. Nothing is chosen by it.
        epochs: That it finished.
        seconds: That it ran, all parts together.
        job: Its number in the queue, where there is one.
    """

    number: int
    values: dict[str, str] = field(default_factory=dict)
    state: str = RUNNING
    code: int | None = None
    said: str = ""
    score: float | None = None
    test: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    job: str | None = None

    @property
    def ended(self) -> bool:
        return self.state not in (RUNNING, STOPPED)

    @property
    def words(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values.items())

    def read(self, folder: Path) -> None:
        """Take scores and epochs from what the run left in its folder so far."""
        rows = scores(folder)
        self.epochs = max([epoch for epoch, _ in rows], default=0)
        self.score = max([score for _, score in rows if math.isfinite(score)], default=None)
        if (folder / "metrics.json").is_file():
            result = json.loads((folder / "metrics.json").read_text())
            self.epochs = result.get("epochs") or self.epochs
            kept = (result.get("val") or {}).get("score")
            self.score = result.get("score") if kept is None else kept
            self.test = (result.get("test") or {}).get("score")


def scores(folder: Path) -> list[tuple[int, float]]:
    """(epoch, validation score) of every judged epoch in ``metrics.csv``."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [(int(row["epoch"]), float(row["val/score"])) for row in csv.DictReader(file) if row.get("val/score")]


def unseen_seconds(folder: Path) -> float:
    """How long a run took, by its own word, whose end no sweep saw."""
    return float(json.loads((folder / "metrics.json").read_text()).get("seconds") or 0.0)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the greatest score; the first of equals."""
    judged = [trial for trial in trials if trial.state == DONE and trial.score is not None]
    return max(judged, key=lambda trial: (trial.score, -trial.number), default=None)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; what has no score, or did not finish, comes last."""
    return sorted(trials, key=lambda t: (t.state != DONE, t.score is None, -(t.score or 0.0), t.number))


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """``sweep.json``, from which a sweep goes on, and ``sweep.csv``."""
    chosen = best(trials)
    counts = {state: sum(trial.state == state for trial in trials) for state in dict.fromkeys(t.state for t in trials)}
    content: dict[str, Any] = {"best": None, "counts": counts, "trials": [asdict(trial) for trial in trials]}
    if chosen:
        content["best"] = asdict(chosen) | {"folder": str(folder / str(chosen.number))}
    write_json(folder / "sweep.json", content)
    write_text(folder / "sweep.csv", table(trials))


def table(trials: Sequence[Trial]) -> str:
    """A row a trial, in the order of their numbers."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["number", "state", "score", "test", "epochs", "seconds", *keys, "code", "said"])
    for trial in trials:
        row = [trial.number, trial.state, trial.score, trial.test, trial.epochs, round(trial.seconds, 1)]
        writer.writerow([*row, *(trial.values.get(key, "") for key in keys), trial.code, trial.said])
    return buffer.getvalue()


def read_trials(folder: Path, keys: set[str] | None = None) -> list[Trial]:
    """The trials that a sweep has begun; each has values for `keys`, where they are given.

    Raises:
        InputError: If ``sweep.json`` can't be read.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        return []
    try:
        trials = [Trial(**row) for row in json.loads(path.read_text())["trials"]]
        for place, trial in enumerate(trials):
            refuse_odd(trial, place, keys)
        return trials
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} can't be read ({first_line(error)}): sweep into another run_dir") from error


def refuse_odd(trial: Trial, place: int, keys: set[str] | None) -> None:
    """Raise ValueError for what no sweep writes: a number names a folder, which may be removed, and values are words of a command."""
    if type(trial.number) is not int or trial.number != place:
        raise ValueError(f"trial {place} has the number {trial.number!r}")
    if trial.state not in STATES or not isinstance(trial.job, str | None) or not re.fullmatch(r"\w*", trial.job or ""):
        raise ValueError(f"trial {place} has the state {trial.state!r}, the job {trial.job!r}")
    if (keys is not None and set(trial.values) != keys) or not all(isinstance(v, str) for v in trial.values.values()):
        raise ValueError(f"trial {place} has values of {sorted(trial.values)}, the sweep is over {sorted(keys or ())}")
