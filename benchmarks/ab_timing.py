"""A/B timing: two sides alternate, so that a drift of the machine's speed affects both; results keep the spread of the rounds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


class Absent(Exception):
    """A row can't be measured here: its data set is not available."""


@dataclass(frozen=True)
class Settings:
    """How a row is measured.

    Attributes:
        data: Folder of the real data sets.
        scratch: Temporary folder, deleted after the row.
        rounds: Rounds of each side that count.
        quick: Whether small counts suffice, to check that a row runs at all.
    """

    data: Path
    scratch: Path
    rounds: int = 5
    quick: bool = False

    def pick(self, quick: int, full: int) -> int:
        """Returns `quick` in quick mode, else `full`."""
        return quick if self.quick else full

    def dataset(self, name: str) -> Path:
        """Returns the folder of a real data set.

        Raises:
            Absent: If it does not exist.
        """
        folder = self.data / name
        if not folder.is_dir():
            raise Absent(f"no data set {name} in the folder RESMET_DATA")
        return folder


@dataclass
class Result:
    """What a row measured.

    Attributes:
        ours: Resmet's value in `unit`, the median of all rounds.
        theirs: The rival's; None for a row that has only a target.
        ratio: How many times better `ours` is: above 1 is better, whatever the unit.
        low: The lowest ratio of a round.
        high: The highest ratio of a round.
        rounds: Number of rounds that counted.
        notes: Remarks for the reader, such as the duration of the first round.
        raw: The measured value of every round, by side.
    """

    ours: float
    unit: str
    theirs: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


def compare(
    ours: Sequence[float], theirs: Sequence[float], unit: str, work: float | None = None, notes: Sequence[str] = ()
) -> Result:
    """Compares two sides round by round.

    Args:
        ours: Resmet's cost in each round: seconds, or bytes.
        theirs: The rival's cost in the same rounds.
        unit: Unit of the displayed values.
        work: If given, the displayed values are rates: `work` divided by the cost.
        notes: For `Result.notes`.

    Raises:
        ValueError: If there is no round, or the sides differ in the number of rounds.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"both sides need the same number of rounds, at least 1, got {len(ours)} and {len(theirs)}")
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    first, second = (work / median(side) if work else median(side) for side in (ours, theirs))
    raw = {"ours": list(ours), "theirs": list(theirs)}
    return Result(first, unit, second, median(ratios), min(ratios), max(ratios), len(ratios), list(notes), raw)


def compare_ms(ours: Sequence[float], theirs: Sequence[float], unit: str = "ms/step") -> Result:
    """Compares seconds, displayed as milliseconds."""
    return compare([1000 * value for value in ours], [1000 * value for value in theirs], unit)


def summarize(values: Sequence[float], unit: str, notes: Sequence[str] = ()) -> Result:
    """Returns the median of a measurement without a rival; a note has the range of the values."""
    spread = f"{min(values):.3g} to {max(values):.3g} {unit}"
    return Result(median(values), unit, rounds=len(values), notes=[*notes, spread], raw={"ours": list(values)})


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of every round of both sides, which alternate, ours first. One more round at the start warms up and is not counted."""
    seconds = [(timed(ours), timed(theirs)) for _ in range(rounds + 1)][1:]
    return [first for first, _ in seconds], [second for _, second in seconds]


def timed(work: Callable[[], Any]) -> float:
    """Returns the seconds that `work` takes, pending GPU work included."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Waits for pending GPU work."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
