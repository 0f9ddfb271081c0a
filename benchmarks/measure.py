"""Rows of the table, and their measurement: two sides alternate, so that a drift of the machine's speed affects both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
MODULES = ("training", "nets", "loading", "feature_cache", "startup", "scores", "gpu")
"""Of ``benchmarks/rows``, in the order of the table."""
ON_DEMAND = ("precision", "score", "gpu")
"""Groups that take minutes a row or need a GPU, and run only if they are named."""


class Absent(Exception):
    """A row can't be measured here: its data set or a GPU is not available."""


@dataclass(frozen=True)
class Settings:
    """The folder of the real data sets, a temporary folder, the rounds that count, and whether small counts suffice."""

    data: Path
    scratch: Path
    rounds: int = 5
    quick: bool = False

    def pick(self, quick: int, full: int) -> int:
        """Returns `quick` in quick mode, else `full`."""
        return quick if self.quick else full


@dataclass
class Result:
    """Medians in `unit`; `ratio` is how many times better `ours` is, above 1 is better. `raw` has the cost of every round, by side."""

    ours: float
    unit: str
    theirs: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    notes: list[str] = field(default_factory=list)
    raw: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table: its name is ``group.what``. Targets: the lowest ratio, or the highest value."""

    name: str
    rival: str
    description: str
    measure: Callable[[Settings], Result]
    min_ratio: float | None = None
    max_value: float | None = None

    @property
    def group(self) -> str:
        return self.name.split(".")[0]


ROWS: dict[str, Row] = {}


def row(name: str, rival: str, description: str, **target: float | None) -> Callable[[Callable], Callable]:
    """Adds the decorated function to the table."""

    def add(measure: Callable[[Settings], Result]) -> Callable:
        ROWS[name] = Row(name, rival, description, measure, **target)
        return measure

    return add


def all_rows() -> dict[str, Row]:
    """Returns every row by its name, in the order of the table."""
    for module in MODULES:
        import_module(f"benchmarks.rows.{module}")
    return ROWS


def select(names: Sequence[str]) -> list[Row]:
    """Returns the rows that `names` lists, each a row or a group; without names, all but the groups on demand.

    Raises:
        ValueError: If a name is neither a row nor a group.
    """
    rows = all_rows().values()
    known = {name for row in rows for name in (row.name, row.group)}
    if unknown := set(names) - known:
        raise ValueError(f"no row or group {', '.join(sorted(unknown))}. Allowed: {', '.join(sorted(known))}")
    return [row for row in rows if ({row.name, row.group} & set(names) if names else row.group not in ON_DEMAND)]


def compare(
    ours: Sequence[float],
    theirs: Sequence[float],
    unit: str,
    show: Callable[[float], float] = float,
    notes: Iterable[str] = (),
) -> Result:
    """Compares the costs of two sides, seconds or bytes, round by round; the displayed values are ``show(median cost)``."""
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    raw = {"ours": list(ours), "theirs": list(theirs)}
    first, second, ratio = show(median(ours)), show(median(theirs)), median(ratios)
    return Result(first, unit, second, ratio, min(ratios), max(ratios), len(ratios), list(notes), raw)


def compare_ms(
    ours: Sequence[float], theirs: Sequence[float], unit: str = "ms", size: int = 1, notes: Iterable[str] = ()
) -> Result:
    """Compares rounds of `size` steps, displayed as milliseconds a step."""
    return compare(ours, theirs, unit, lambda seconds: 1000 * seconds / size, notes)


def summarize(values: Sequence[float], unit: str, notes: Iterable[str] = ()) -> Result:
    """Returns the median of a measurement without a rival; a note has the range of the values."""
    spread = f"{min(values):.3g} to {max(values):.3g} {unit}"
    return Result(median(values), unit, rounds=len(values), notes=[*notes, spread], raw={"ours": list(values)})


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of every round of both sides, which alternate. One more round at the start warms up and is not counted."""
    seconds = [(timed(ours), timed(theirs)) for _ in range(rounds + 1)][1:]
    return [first for first, _ in seconds], [second for _, second in seconds]


def timed(work: Callable[[], Any]) -> float:
    """Returns the seconds that `work` takes, pending GPU work included."""
    from torch.utils.benchmark.utils.timer import timer  # synchronizes the GPU

    start = timer()
    work()
    return timer() - start


def run_python(*words: str, code: int = 0) -> str:
    """Runs a Python process that must exit with `code`, and returns its output."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)} exited with {done.returncode}, not {code}: {done.stderr[-2000:]}")
    return done.stdout
