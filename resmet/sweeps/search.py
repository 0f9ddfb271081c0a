"""Searches: which values the next trial has, every combination in turn or those that Optuna samples."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

from optuna import Study, create_trial
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from foundation.structures import InputError, require_range
from resmet.sweeps.launchers import LocalLauncher, SlurmLauncher
from resmet.sweeps.search_space import Space


class Search:
    """Where trials run, and how many at a time. Trials are numbered from 0; greater scores are better.

    Raises:
        InputError: If a number is out of range.
    """

    settings: dict[str, Any] = {}
    """What must not change when a sweep is resumed."""

    def __init__(self, launcher: LocalLauncher | SlurmLauncher, jobs: int = 1) -> None:
        require_range("sweep.jobs", jobs, 1)
        self.launcher, self.jobs = launcher, jobs

    def total(self, space: Space) -> int:
        """Returns the number of trials.

        Raises:
            InputError: If this search can't be used on `space`.
        """
        raise NotImplementedError

    def add_trial(self, study: Study, space: Space, started: int, seed: int) -> None:
        """Adds the trial that follows the `started` ones to the study, with its values."""
        raise NotImplementedError

    def pruner(self, epochs: int) -> BasePruner:
        """Returns the pruner for trials of at most `epochs` epochs."""
        return NopPruner()


class Grid(Search):
    """Every combination, the last key fastest."""

    def total(self, space: Space) -> int:
        for axis in space.axes:
            if axis.is_interval:
                raise InputError(
                    "sweep.interval_in_grid",
                    f"{space.overrides[axis.key]}: an interval has no list of values: choose sweep=optuna, "
                    f"or give the values ({axis.key}=a,b,c) or a range ({axis.key}=range(from,to,step))",
                )
        return space.count()

    def add_trial(self, study: Study, space: Space, started: int, seed: int) -> None:
        """Adds the next combination; Optuna's GridSampler has an order of its own, and ends the study itself."""
        values = next(islice(space.grid(), started, None))
        study.add_trial(create_trial(state=TrialState.RUNNING, params=values, distributions=space.distributions))


class Optuna(Search):
    """Tree-structured Parzen estimator, with pruning. Source: Bergstra et al., 2011; Akiba et al., 2019 (arXiv:1907.10902).

    Trial k is sampled with the seed (seed, k) and the results of earlier trials, so that a resumed sweep samples what the
    uninterrupted one would have. With several jobs that depends on which trial ends first.

    The pruner ``median`` prunes a trial that is worse than the median of the others at the same epoch, ``hyperband`` gives many
    trials few epochs and the best of them more (Li et al., 2016, arXiv:1603.06560). ``conf/sweep/optuna.yaml`` explains the rest.
    """

    def __init__(
        self,
        launcher: LocalLauncher | SlurmLauncher,
        jobs: int = 1,
        trials: int = 20,
        pruner: Literal["median", "hyperband", "none"] = "median",
        startup_trials: int = 5,
        warmup_epochs: int = 1,
    ) -> None:
        super().__init__(launcher, jobs)
        require_range("sweep.trials", trials, 1)
        require_range("sweep.startup_trials", startup_trials, 1)
        require_range("sweep.warmup_epochs", warmup_epochs, 0)
        self.trials, self.pruning, self.startup_trials, self.warmup_epochs = (
            trials,
            pruner,
            startup_trials,
            warmup_epochs,
        )
        self.settings = {"pruner": pruner, "startup_trials": startup_trials, "warmup_epochs": warmup_epochs}

    def total(self, space: Space) -> int:
        if not space.axes:
            text = "sweep=optuna has nothing to search: give key=a,b or key=interval(a,b), see --help"
            raise InputError("sweep.nothing_to_search", text)
        return self.trials

    def add_trial(self, study: Study, space: Space, started: int, seed: int) -> None:
        trial_seed = (seed * 1_000_003 + started) % 2**32
        study.sampler = TPESampler(seed=trial_seed, n_startup_trials=self.startup_trials, constant_liar=self.jobs > 1)
        study.ask(space.distributions)

    def pruner(self, epochs: int) -> BasePruner:
        if self.pruning == "hyperband":
            return HyperbandPruner(min_resource=max(1, self.warmup_epochs), max_resource=max(epochs, 2))
        if self.pruning == "median":
            return MedianPruner(n_startup_trials=self.startup_trials, n_warmup_steps=self.warmup_epochs + 1)
        return super().pruner(epochs)
