"""The trials of a sweep on disk: one Optuna study in its folder, for grids as well as for searches, from which it is resumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from foundation.storage.atomic import write_bytes
from foundation.structures import InputError, first_line
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space, as_text
from resmet.sweeps.trial import STATUSES, Trial

JOURNAL = "optuna.log"
NAME = "sweep"
RECORD = "trial"
"""The user attribute of an Optuna trial that holds a `Trial` without its number and values."""


class SweepStudy:
    """Trials of a sweep, on disk in an Optuna journal, which is JSON; `epochs` is the most that one trains.

    Raises:
        InputError: If the journal can't be read, or holds what no sweep of this space writes.
    """

    def __init__(self, folder: Path, space: Space, search: Search, seed: int, epochs: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.search, self.seed = space, search, seed
        try:
            drop_incomplete_line(folder / JOURNAL)
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
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            text = f"{folder / JOURNAL} can't be read ({first_line(error)}): use another run_dir"
            raise InputError("sweep.unreadable", text) from error

    def trials(self) -> list[Trial]:
        """Returns the trials that were added. One whose sweep died before all its values were stored is not among them."""
        stored = self.study.get_trials(deepcopy=False)
        return [self.read(frozen) for frozen in stored if RECORD in frozen.user_attrs]

    def read(self, frozen: FrozenTrial) -> Trial:
        """Returns a stored trial.

        Raises:
            ValueError: If no sweep would write it: its values become part of a command line, its job of another.
        """
        if frozen.distributions != self.space.distributions:
            raise ValueError(f"trial {frozen.number} has values of {frozen.distributions}")
        values = {axis.key: as_text(frozen.params[axis.key], axis.distribution) for axis in self.space.axes}
        trial = Trial(frozen.number, values, **frozen.user_attrs.get(RECORD, {}))
        if trial.status not in STATUSES or not re.fullmatch(r"\w*", trial.job or ""):
            raise ValueError(f"trial {trial.number} has the status {trial.status!r}, the job {trial.job!r}")
        return trial

    def ask(self) -> Trial:
        """Adds the next trial, and returns it."""
        self.search.add_trial(self.study, self.space, len(self.trials()), self.seed)
        trial = self.read(self.study.get_trials(deepcopy=False)[-1])
        self.save(trial)
        return trial

    def open(self, number: int) -> optuna.Trial:
        """Returns Optuna's own object for trial `number`."""
        study = self.storage.get_study_id_from_name(NAME)
        return optuna.Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    def save(self, trial: Trial) -> None:
        """Stores the state of a trial; that of one that ended is final."""
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

    def report(self, number: int, scores: Mapping[int, float]) -> bool:
        """Stores {epoch: score} as far as it is new; returns whether the trial should be pruned."""
        trial = self.open(number)
        known = self.study.get_trials(deepcopy=False)[number].intermediate_values
        for epoch in sorted(scores.keys() - known.keys()):  # a resumed trial repeats its epochs
            trial.report(scores[epoch], epoch)
        return trial.should_prune()


def drop_incomplete_line(journal: Path) -> None:
    """Removes an entry that a full disk or a power failure left incomplete: Optuna reads nothing if another one follows it."""
    content = journal.read_bytes() if journal.is_file() else b""
    if not content.endswith(b"\n") and content:
        write_bytes(journal, content[: content.rfind(b"\n") + 1])
