"""What a sweep's command line asks for: the words that every trial has, and the keys that vary, in Hydra's grammar."""

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
    """One key that varies.

    Attributes:
        key: As on the command line, with a leading ``+`` and a group's package.
        text: What the command line said, e.g. ``resnet18,resnet34`` or ``tag(log, interval(1e-4, 1e-1))``.
        values: What can be counted, as text of Hydra's grammar; empty for an interval.
        low: The least value of an interval, or of a range that grows.
        high: The greatest, included.
        step: Between the values of a range, 0 where any value will do.
        log: Whether small values are to be told apart as finely as great ones.
        numeric: Whether `low` and `high` say something.
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
    """`words` has every trial's words in the order in which they were typed, by key; those of an axis are replaced."""

    words: dict[str, str]
    axes: tuple[Axis, ...]

    def line(self, values: dict[str, str]) -> list[str]:
        """The words of the trial that has these values."""
        return [f"{key}={values[key]}" if key in values else word for key, word in self.words.items()]

    def count(self) -> int:
        """How many combinations there are, of what can be counted."""
        return prod(len(axis.values) for axis in self.axes)

    def grid(self) -> Iterator[dict[str, str]]:
        """Every combination, the last axis fastest, as Hydra has it."""
        keys = [axis.key for axis in self.axes]
        return (dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in self.axes)))

    def probes(self) -> Iterator[dict[str, str]]:
        """Every value of every axis at least once (the ends of an interval), the others at their first."""
        ends = {axis.key: axis.values or (number(axis.low), number(axis.high)) for axis in self.axes}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            yield from (first | {key: value} for value in values[1:])


def read_space(overrides: Sequence[Override]) -> Space:
    """Words and axes of parsed overrides; of a key that is said twice the last counts, as in Hydra.

    Raises:
        InputError: If what is to vary is empty or can't be drawn from.
    """
    random.seed(0)  # shuffle() draws from it: a sweep that goes on must find the same order
    chosen = {override.get_key_element(): override for override in overrides}
    words = {key: str(override.input_line) for key, override in chosen.items()}
    return Space(words, tuple(read_axis(o) for o in chosen.values() if o.is_sweep_override()))


def read_axis(override: Override) -> Axis:
    key, line = override.get_key_element(), str(override.input_line)
    text, value = line.partition("=")[2], override.value()
    log = "log" in getattr(value, "tags", ())
    if override.is_interval_sweep():
        return interval(Axis(key, text, (), value.start, value.end, 0, log, True), line)  # type: ignore[union-attr, arg-type]
    values = tuple(override.sweep_string_iterator())
    if not values:
        raise InputError(f"{line}: there is nothing to choose from")
    if override.is_range_sweep() and not log and not value.shuffle and value.step > 0:  # type: ignore[union-attr]
        low, high = plain(values[0]), plain(values[-1])
        return Axis(key, text, values, low, high, value.step, False, True)  # type: ignore[union-attr]
    return Axis(key, text, values)


def interval(axis: Axis, line: str) -> Axis:
    """`axis`, where it can be drawn from."""
    if axis.low >= axis.high:
        raise InputError(f"{line}: an interval goes from the lesser to the greater")
    if axis.log and axis.low <= 0:
        raise InputError(f"{line}: with tag(log, ...) an interval starts above 0")
    return axis


def plain(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def number(value: float) -> str:
    """A number as Hydra reads it back, without the dust of binary fractions."""
    return repr(value) if isinstance(value, int) else repr(float(f"{value:.12g}"))
