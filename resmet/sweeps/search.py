"""Searches: which values the next trial has, every combination in turn or those that Optuna samples."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from foundation.structures import InputError
from resmet.sweeps.launchers import LocalLauncher, SlurmLauncher
from resmet.sweeps.search_space import Space


class Search:
    """What a sweep needs to know of a search. Trials are numbered from 0; greater scores are better.

    Args:
        launcher: Where trials run.
        jobs: Trials at a time.

    Raises:
        InputError: If a number is out of range.
    """

    def __init__(self, launcher: LocalLauncher | SlurmLauncher, jobs: int = 1) -> None:
        require_at_least(1, jobs=jobs)
        self.launcher, self.jobs = launcher, jobs

    def settings(self) -> dict[str, Any]:
        """Returns what must not change when a sweep is resumed."""
        return {}

    def check(self, space: Space) -> None:
        """Raises InputError if this search can't be used on `space`."""

    def total(self, space: Space) -> int:
        """Returns the number of trials."""
        raise NotImplementedError

    def fixed_values(self, space: Space, number: int) -> dict[str, str] | None:
        """Returns the values of trial `number`; None if they are sampled."""
        return None

    def sampler(self, seed: int, number: int) -> BaseSampler:
        """Returns the sampler for trial `number`."""
        raise NotImplementedError

    def pruner(self, epochs: int) -> BasePruner:
        """Returns the pruner for trials of at most `epochs` epochs."""
        return NopPruner()


class Grid(Search):
    """Every combination, the last key fastest."""

    def check(self, space: Space) -> None:
        for axis in space.axes:
            if not axis.values:
                raise InputError(
                    "sweep.interval_in_grid",
                    f"{axis.key}={axis.text}: an interval has no list of values: choose sweep=optuna, "
                    f"or give the values ({axis.key}=a,b,c) or a range ({axis.key}=range(from,to,step))",
                )

    def total(self, space: Space) -> int:
        return space.count()

    def fixed_values(self, space: Space, number: int) -> dict[str, str]:
        return next(islice(space.grid(), number, None))

    def sampler(self, seed: int, number: int) -> BaseSampler:
        return RandomSampler(seed)  # samples nothing: all values are fixed. GridSampler would end the study itself


class Optuna(Search):
    """Tree-structured Parzen estimator, with pruning. Source: Bergstra et al., 2011; Akiba et al., 2019 (arXiv:1907.10902).

    Trial k is sampled with the seed (seed, k) and the results of earlier trials, so that a resumed sweep samples what the
    uninterrupted one would have. With several jobs that depends on which trial ends first.

    Args:
        launcher: Where trials run.
        jobs: Trials at a time.
        trials: How many in all.
        pruner: ``median`` prunes a trial that is worse than the median of the others at the same epoch, ``hyperband``
            gives many trials few epochs and the best of them more (Li et al., 2016, arXiv:1603.06560).
        startup_trials: Trials sampled at random; the median pruner waits for them, too.
        warmup_epochs: Epochs of a trial in which it is not pruned.
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
        require_at_least(1, trials=trials, startup_trials=startup_trials)
        require_at_least(0, warmup_epochs=warmup_epochs)
        self.trials, self.pruning = trials, pruner
        self.startup_trials, self.warmup_epochs = startup_trials, warmup_epochs

    def settings(self) -> dict[str, Any]:
        return {"pruner": self.pruning, "startup_trials": self.startup_trials, "warmup_epochs": self.warmup_epochs}

    def check(self, space: Space) -> None:
        if not space.axes:
            text = "sweep=optuna has nothing to search: give key=a,b or key=interval(a,b), see --help"
            raise InputError("sweep.nothing_to_search", text)

    def total(self, space: Space) -> int:
        return self.trials

    def sampler(self, seed: int, number: int) -> BaseSampler:
        own = (seed * 1_000_003 + number) % 2**32
        return TPESampler(seed=own, n_startup_trials=self.startup_trials, constant_liar=self.jobs > 1)

    def pruner(self, epochs: int) -> BasePruner:
        if self.pruning == "hyperband":
            return HyperbandPruner(min_resource=max(1, self.warmup_epochs), max_resource=max(epochs, 2))
        if self.pruning == "median":
            return MedianPruner(n_startup_trials=self.startup_trials, n_warmup_steps=self.warmup_epochs + 1)
        return super().pruner(epochs)


def require_at_least(least: int, **values: int) -> None:
    for key, value in values.items():
        if value < least:
            raise InputError("sweep.out_of_range", f"sweep.{key} must be at least {least}, got {value}")
