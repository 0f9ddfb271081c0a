"""The search space of a sweep: the overrides that every trial has, and the keys that vary, in Hydra's grammar."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from hydra.core.override_parser.types import Override

from foundation.structures import InputError


@dataclass(frozen=True)
class Axis:
    """A key that varies.

    Attributes:
        key: As on the command line, with a leading ``+`` and a group's package.
        text: Its value there, e.g. ``resnet18,resnet34`` or ``tag(log, interval(1e-4, 1e-1))``.
        values: The values, as text in Hydra's grammar; empty for an interval.
        low: The least value of an interval, or of a range that grows.
        high: The greatest, included.
        step: Between the values of a range, 0 for an interval.
        log: Whether an interval is sampled on a logarithmic scale.
        numeric: Whether `low` and `high` are given.
    """

    key: str
    text: str
    values: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 0
    log: bool = False
    numeric: bool = False


@dataclass(frozen=True)
class Space:
    """The overrides of every trial in the order in which they were typed, by key; those of the axes are replaced."""

    overrides: dict[str, str]
    axes: tuple[Axis, ...]

    def overrides_of(self, values: dict[str, str]) -> list[str]:
        """Returns the overrides of the trial with these values."""
        return [f"{key}={values[key]}" if key in values else override for key, override in self.overrides.items()]

    def count(self) -> int:
        """Returns the number of combinations of the axes that have values."""
        return prod(len(axis.values) for axis in self.axes)

    def grid(self) -> Iterator[dict[str, str]]:
        """Yields every combination, the last axis fastest, as Hydra does."""
        keys = [axis.key for axis in self.axes]
        return (dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in self.axes)))

    def probes(self) -> Iterator[dict[str, str]]:
        """Yields combinations with every value of every axis at least once (the ends of an interval)."""
        ends = {axis.key: axis.values or (as_text(axis.low), as_text(axis.high)) for axis in self.axes}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            yield from (first | {key: value} for value in values[1:])


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
    key, line = override.get_key_element(), str(override.input_line)
    text, value = line.partition("=")[2], override.value()
    log = "log" in getattr(value, "tags", ())
    if override.is_interval_sweep():
        return check_interval(Axis(key, text, (), value.start, value.end, 0, log, True), line)  # type: ignore[union-attr, arg-type]
    values = tuple(override.sweep_string_iterator())
    if not values:
        raise InputError("sweep.empty_axis", f"{line}: there is nothing to choose from")
    if override.is_range_sweep() and not log and not value.shuffle and value.step > 0:  # type: ignore[union-attr]
        low, high = as_number(values[0]), as_number(values[-1])
        return Axis(key, text, values, low, high, value.step, False, True)  # type: ignore[union-attr]
    return Axis(key, text, values)


def check_interval(axis: Axis, line: str) -> Axis:
    if axis.low >= axis.high:
        raise InputError("sweep.invalid_interval", f"{line}: the first number of an interval must be the smaller one")
    if axis.log and axis.low <= 0:
        raise InputError("sweep.invalid_interval", f"{line}: with tag(log, ...) an interval must start above 0")
    return axis


def as_number(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def as_text(value: float) -> str:
    """Returns a number as Hydra reads it back, rounded to 12 digits."""
    return repr(value) if isinstance(value, int) else repr(float(f"{value:.12g}"))
