"""The search space of a sweep: the overrides that every trial has, and the keys that vary, in Hydra's grammar."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from math import prod
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from foundation.structures import InputError


@dataclass(frozen=True)
class Axis:
    """A key that varies.

    Attributes:
        key: As on the command line, with a leading ``+`` and a group's package.
        values: All values, as text in Hydra's grammar; of an interval its two ends.
        distribution: What Optuna samples from; texts of `values` where they are not numbers at equal distances.
    """

    key: str
    values: tuple[str, ...]
    distribution: BaseDistribution
    is_interval: bool = False


@dataclass(frozen=True)
class Space:
    """The overrides of every trial in the order in which they were typed, by key; a trial has its own for the axes."""

    overrides: dict[str, str]
    axes: tuple[Axis, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {axis.key: axis.distribution for axis in self.axes}

    def overrides_of(self, values: Mapping[str, str]) -> list[str]:
        """Returns the overrides of the trial with these values."""
        return [f"{key}={values[key]}" if key in values else override for key, override in self.overrides.items()]

    def count(self) -> int:
        """Returns the number of combinations, of intervals those of their ends."""
        return prod(len(axis.values) for axis in self.axes)

    def grid(self) -> Iterator[dict[str, str]]:
        """Yields every combination, the last axis fastest, as Hydra does."""
        keys = [axis.key for axis in self.axes]
        return (dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in self.axes)))

    def probes(self) -> Iterator[dict[str, str]]:
        """Yields combinations that have every value of every axis at least once."""
        first = {axis.key: axis.values[0] for axis in self.axes}
        yield first
        for axis in self.axes:
            yield from (first | {axis.key: value} for value in axis.values[1:])


def read_space(overrides: Sequence[Override]) -> Space:
    """Returns the space of parsed overrides; the last one of a key counts, as in Hydra.

    Raises:
        InputError: If an axis is empty or can't be sampled.
    """
    random.seed(0)  # Hydra's shuffle() uses it: a resumed sweep must get the same order
    by_key = {override.get_key_element(): override for override in overrides}
    texts = {key: str(override.input_line) for key, override in by_key.items()}
    return Space(texts, tuple(read_axis(override) for override in by_key.values() if override.is_sweep_override()))


def read_axis(override: Override) -> Axis:
    key, line, value = override.get_key_element(), str(override.input_line), override.value()
    if isinstance(value, IntervalSweep):
        distribution = read_interval(value, line)
        ends = (as_text(distribution.low, distribution), as_text(distribution.high, distribution))
        return Axis(key, ends, distribution, is_interval=True)
    values = tuple(override.sweep_string_iterator())
    if not values:
        raise InputError("sweep.empty_axis", f"{line}: there is nothing to choose from")
    if isinstance(value, RangeSweep) and not value.shuffle and "log" not in value.tags and value.step > 0:
        if isinstance(value.range(), range):
            whole = IntDistribution(int(values[0]), int(values[-1]), step=int(value.step))
            return Axis(key, values, whole)
        numbers = [rounded(number) for number in values]
        values = tuple(map(str, numbers))
        low, high, step = (Decimal(str(number)) for number in (numbers[0], numbers[-1], value.step))
        if (high - low) % step == 0:  # else Optuna lowers the upper end
            return Axis(key, values, FloatDistribution(numbers[0], numbers[-1], step=value.step))
    return Axis(key, values, CategoricalDistribution(values))


def read_interval(interval: IntervalSweep, line: str) -> IntDistribution | FloatDistribution:
    low, high, log = interval.start, interval.end, "log" in interval.tags
    if low is None or high is None or low >= high:
        raise InputError("sweep.invalid_interval", f"{line}: the first number of an interval must be the smaller one")
    if log and low <= 0:
        raise InputError("sweep.invalid_interval", f"{line}: with tag(log, ...) an interval must start above 0")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def as_text(value: Any, distribution: BaseDistribution) -> str:
    """Returns a sampled value as Hydra reads it back; floats are rounded to 12 digits."""
    return str(rounded(value)) if isinstance(distribution, FloatDistribution) else str(value)


def rounded(value: Any) -> float:
    return float(f"{float(value):.12g}")
