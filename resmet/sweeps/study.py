"""The books of a sweep: one Optuna study in its folder, for grids as well as for searches, from which it is resumed."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from foundation.structures import InputError, first_line
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Axis, Space, as_text
from resmet.sweeps.trial import STATUSES, Trial

JOURNAL = "optuna.log"
NAME = "sweep"
RECORD = "trial"
"""The user attribute of an Optuna trial that holds a `Trial` without its number and values."""


class SweepStudy:
    """Trials of a sweep, on disk in an Optuna journal, which is JSON.

    Args:
        folder: The sweep's.
        space: What varies.
        search: How values are chosen.
        seed: Of the sampler.
        epochs: The most that a trial trains.

    Raises:
        InputError: If the journal can't be read, or holds what no sweep of this space writes.
    """

    def __init__(self, folder: Path, space: Space, search: Search, seed: int, epochs: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.search, self.seed = space, search, seed
        try:
            self.storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
            self.study = optuna.create_study(
                study_name=NAME,
                storage=self.storage,
                direction="maximize",
                pruner=search.pruner(epochs),
                load_if_exists=True,
            )
            for trial in self.trials():
                if trial.ended:
                    self.tell(trial)  # the sweep may have died between the two entries
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            text = f"{folder / JOURNAL} can't be read ({first_line(error)}): use another run_dir"
            raise InputError("sweep.unreadable", text) from error

    def trials(self) -> list[Trial]:
        """Returns the trials that were started."""
        stored = self.study.get_trials(deepcopy=False)
        return [self.read(frozen) for frozen in stored if RECORD in frozen.user_attrs]

    def read(self, frozen: FrozenTrial) -> Trial:
        """Returns a stored trial.

        Raises:
            ValueError: If no sweep would write it: its values become part of a command line, its job of another.
        """
        trial = Trial(frozen.number, self.values(frozen.params), **frozen.user_attrs[RECORD])
        if trial.status not in STATUSES or not re.fullmatch(r"\w*", trial.job or ""):
            raise ValueError(f"trial {trial.number} has the status {trial.status!r}, the job {trial.job!r}")
        allowed = {axis.key: axis for axis in self.space.axes}
        if set(allowed) != set(frozen.params) or not all(contains(allowed[k], v) for k, v in frozen.params.items()):
            raise ValueError(f"trial {trial.number} has the values {trial.values}")
        return trial

    def values(self, params: dict[str, Any]) -> dict[str, str]:
        return {key: value if isinstance(value, str) else as_text(value) for key, value in params.items()}

    def ask(self, number: int) -> Trial:
        """Returns trial `number`, the next one that was not started. It is not saved yet."""
        stored = self.study.get_trials(deepcopy=False)
        fixed = self.search.fixed_values(self.space, number)
        if number == len(stored) and fixed is not None:
            self.study.enqueue_trial(fixed)
        self.study.sampler = self.search.sampler(self.seed, number)
        if number < len(stored) and stored[number].state != TrialState.WAITING:  # the sweep died before it started it
            trial = self.open(number)
        else:
            trial = self.study.ask()
        for axis in self.space.axes:
            suggest(trial, axis, fixed is not None)
        return Trial(number, self.values(trial.params))

    def open(self, number: int) -> optuna.Trial:
        """Returns Optuna's own object for trial `number`."""
        study = self.storage.get_study_id_from_name(NAME)
        return optuna.Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    def save(self, trial: Trial) -> None:
        """Stores a trial that was started or stopped; one that ended is stored for good."""
        record = {key: value for key, value in asdict(trial).items() if key not in ("number", "values")}
        self.open(trial.number).set_user_attr(RECORD, record)
        if trial.ended:
            self.tell(trial)

    def tell(self, trial: Trial) -> None:
        if trial.status == "done" and trial.score is not None:
            self.study.tell(trial.number, trial.score, skip_if_finished=True)
        else:
            state = TrialState.PRUNED if trial.status == "pruned" else TrialState.FAIL
            self.study.tell(trial.number, state=state, skip_if_finished=True)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Stores the score of an epoch; returns whether the trial should be pruned."""
        trial = self.open(number)
        if epoch not in self.study.get_trials(deepcopy=False)[number].intermediate_values:  # a resumed trial repeats it
            trial.report(score, epoch)
        return trial.should_prune()


def suggest(trial: optuna.Trial, axis: Axis, fixed: bool) -> None:
    """Lets Optuna choose a value of `axis` for `trial`; the values of a grid are fixed texts."""
    if fixed or not axis.numeric:
        trial.suggest_categorical(axis.key, axis.values)
    elif isinstance(axis.low, int) and isinstance(axis.high, int):
        trial.suggest_int(axis.key, axis.low, axis.high, log=axis.log, step=int(axis.step) or 1)
    else:
        trial.suggest_float(axis.key, axis.low, axis.high, log=axis.log, step=axis.step or None)


def contains(axis: Axis, value: Any) -> bool:
    """Whether `value` is one that `suggest` may have chosen."""
    if isinstance(value, str):
        return value in axis.values
    return axis.numeric and isinstance(value, int | float) and axis.low <= value <= axis.high
