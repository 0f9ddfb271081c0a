"""Which trial comes next: every combination in turn, or what Optuna draws from the trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from foundation.structures import InputError
from resmet.sweeps.launchers import Local, Slurm
from resmet.sweeps.search_space import Axis, Space, number
from resmet.sweeps.trial import DONE, PRUNED, Trial

STUDY = "sweep"


class Search:
    """What a sweep asks of a search. Trials are numbered from 0 on; scores are the greater the better.

    Raises:
        InputError: If a number is out of range.
    """

    def __init__(self, jobs: int, launcher: Local | Slurm) -> None:
        if jobs < 1:
            raise InputError(f"sweep.jobs must be at least 1, got {jobs}")
        self.jobs, self.launcher = jobs, launcher

    def settings(self) -> dict[str, Any]:
        """What makes it another search, and so must not differ when a sweep goes on."""
        return {}

    def refuse(self, space: Space) -> None:
        """Raise InputError where this search can't go through `space`."""

    def total(self, space: Space) -> int:
        """How many trials there will be."""
        raise NotImplementedError

    def begin(self, space: Space, folder: Path, seed: int, epochs: int, trials: Sequence[Trial]) -> None:
        """Before the first proposal: `trials` are those that an earlier part of the sweep has begun."""
        raise NotImplementedError

    def propose(self, place: int) -> dict[str, str]:
        """The values of trial `place` by key."""
        raise NotImplementedError

    def hopeless(self, place: int, epoch: int, score: float) -> bool:
        """Take note of the score of one epoch; whether the trial had better end."""
        return False

    def tell(self, trial: Trial) -> None:
        """Take note of how a trial ended."""


class Grid(Search):
    """Every combination, `jobs` at a time."""

    def __init__(self, launcher: Local | Slurm, jobs: int = 1) -> None:
        super().__init__(jobs, launcher)

    def refuse(self, space: Space) -> None:
        for axis in space.axes:
            if not axis.values:
                raise InputError(
                    f"{axis.key}={axis.text}: an interval has no end of values: say sweep=optuna, "
                    f"or name the values ({axis.key}=a,b,c) or their steps ({axis.key}=range(from,to,step))"
                )

    def total(self, space: Space) -> int:
        return space.count()

    def begin(self, space: Space, folder: Path, seed: int, epochs: int, trials: Sequence[Trial]) -> None:
        self.points = list(space.grid())

    def propose(self, place: int) -> dict[str, str]:
        return self.points[place]


class Optuna(Search):
    """Tree-structured Parzen estimator, with pruning. Source: Bergstra et al., 2011; Akiba et al., 2019 (arXiv:1907.10902).

    The study lies in the sweep's folder. Trial k is drawn by (seed, k) and what the trials before it came to, so that
    a sweep that goes on draws what it would have drawn; with several jobs that depends on which trial ends first.

    Args:
        launcher: Where trials run.
        jobs: Trials at a time.
        trials: How many in all.
        pruner: ``median`` ends a trial that is worse than the median of the others at the same epoch, ``hyperband``
            gives many trials few epochs and the best of them more (Li et al., 2016, arXiv:1603.06560).
        startup: Trials drawn at random; the pruner too waits for them.
        warmup: Epochs in which no trial is ended.
    """

    def __init__(
        self,
        launcher: Local | Slurm,
        jobs: int = 1,
        trials: int = 20,
        pruner: Literal["median", "hyperband", "none"] = "median",
        startup: int = 5,
        warmup: int = 1,
    ) -> None:
        super().__init__(jobs, launcher)
        for key, value, least in (("trials", trials, 1), ("startup", startup, 1), ("warmup", warmup, 0)):
            if value < least:
                raise InputError(f"sweep.{key} must be at least {least}, got {value}")
        self.trials, self.pruner, self.startup, self.warmup = trials, pruner, startup, warmup
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise InputError(
                f"sweep=optuna needs its package ({error}): pip install -c constraints.txt -e '.[optuna]', or choose sweep=grid"
            ) from error
        self.optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def settings(self) -> dict[str, Any]:
        return {"pruner": self.pruner, "startup": self.startup, "warmup": self.warmup}

    def refuse(self, space: Space) -> None:
        if not space.axes:
            raise InputError("sweep=optuna has nothing to search: say key=a,b or key=interval(a,b), see --help")

    def total(self, space: Space) -> int:
        return self.trials

    def begin(self, space: Space, folder: Path, seed: int, epochs: int, trials: Sequence[Trial]) -> None:
        from optuna.storages.journal import JournalFileBackend

        self.storage = self.optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
        self.study = self.optuna.create_study(
            study_name=STUDY,
            storage=self.storage,
            direction="maximize",
            pruner=self.make_pruner(epochs),
            load_if_exists=True,
        )
        self.seed, self.places = seed, {axis.key: self.distribution(axis) for axis in space.axes}
        for trial in trials:
            if trial.ended:
                self.tell(trial)  # it may have been cut off between the two files

    def make_pruner(self, epochs: int) -> Any:
        pruners = self.optuna.pruners
        if self.pruner == "none":
            return pruners.NopPruner()
        if self.pruner == "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, self.warmup), max_resource=max(epochs, 2))
        return pruners.MedianPruner(n_startup_trials=self.startup, n_warmup_steps=self.warmup + 1)

    def distribution(self, axis: Axis) -> Any:
        """Optuna's word for what may be drawn."""
        kinds = self.optuna.distributions
        if not axis.numeric:
            return kinds.CategoricalDistribution(axis.values)
        whole = isinstance(axis.low, int) and isinstance(axis.high, int)
        if whole:
            return kinds.IntDistribution(axis.low, axis.high, log=axis.log, step=int(axis.step) or 1)
        return kinds.FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step or None)

    def propose(self, place: int) -> dict[str, str]:
        known = self.study.get_trials(deepcopy=False)
        if place < len(known):  # drawn, but the sweep was cut off before it took note
            drawn = known[place].params
        else:
            self.study.sampler = self.optuna.samplers.TPESampler(
                seed=(self.seed * 1_000_003 + place) % 2**32,
                n_startup_trials=self.startup,
                constant_liar=self.jobs > 1,
            )
            drawn = self.study.ask(self.places).params
        return {key: value if isinstance(value, str) else number(value) for key, value in drawn.items()}

    def hopeless(self, place: int, epoch: int, score: float) -> bool:
        study = self.storage.get_study_id_from_name(STUDY)
        identity = self.storage.get_trial_id_from_study_id_trial_number(study, place)
        trial = self.optuna.trial.Trial(self.study, identity)
        if epoch not in self.storage.get_trial(identity).intermediate_values:  # a trial that goes on reports once more
            trial.report(score, epoch)
        return self.pruner != "none" and trial.should_prune()

    def tell(self, trial: Trial) -> None:
        states = self.optuna.trial.TrialState
        if trial.state == DONE and trial.score is not None:
            self.study.tell(trial.number, trial.score, skip_if_finished=True)
        else:
            state = states.PRUNED if trial.state == PRUNED else states.FAIL
            self.study.tell(trial.number, state=state, skip_if_finished=True)
