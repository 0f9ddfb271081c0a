"""Two sides take turns, so that a machine whose speed drifts drifts for both; medians and ratios are told with their spread."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


class Absent(Exception):
    """What a row needs is not here: its data, or a key of the project."""


@dataclass(frozen=True)
class Settings:
    """How a row is measured.

    Attributes:
        data: The folder of real data sets.
        scratch: A folder that may be filled, and is thrown away afterwards.
        rounds: Turns of either side that count.
        quick: Whether small counts will do, to see that a row runs at all.
    """

    data: Path
    scratch: Path
    rounds: int = 5
    quick: bool = False

    def few(self, quick: int, full: int) -> int:
        """How many of something: a few where it is to be quick."""
        return quick if self.quick else full

    def need(self, name: str) -> Path:
        """The folder of a real data set.

        Raises:
            Absent: If it is not there.
        """
        folder = self.data / name
        if not folder.is_dir():
            raise Absent(f"no data set {name} at the folder that RESMET_DATA names")
        return folder


@dataclass
class Result:
    """What a row came to.

    Attributes:
        ours: Our figure in `unit`, the median of all rounds.
        theirs: The rival's; None where there is only an aim.
        ratio: How many times as good ours is; above 1 is better, whatever the unit.
        low: The lowest ratio of a round.
        high: The highest.
        rounds: How many rounds counted.
        notes: What a reader should know, such as how long the first round took.
        raw: Seconds, or what was measured, of every round by side.
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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compared(
    ours: Sequence[float], theirs: Sequence[float], unit: str, work: float | None = None, notes: Sequence[str] = ()
) -> Result:
    """What two sides came to whose rounds stand side by side.

    Args:
        ours: A cost of ours by round: seconds, or bytes.
        theirs: The rival's.
        unit: Of the figures that are shown.
        work: Where given, figures are a rate: this much work by the cost.
        notes: For `Result.notes`.

    Raises:
        ValueError: If there is no round, or one side has more of them.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"both sides need as many rounds, at least 1, got {len(ours)} and {len(theirs)}")
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    first, second = median(ours), median(theirs)
    return Result(
        work / first if work else first,
        unit,
        work / second if work else second,
        median(ratios),
        min(ratios),
        max(ratios),
        len(ratios),
        list(notes),
        {"ours": list(ours), "theirs": list(theirs)},
    )


def alone(values: Sequence[float], unit: str, notes: Sequence[str] = ()) -> Result:
    """What something without a rival came to; spread is that of the values."""
    found = Result(median(values), unit, rounds=len(values), notes=list(notes), raw={"ours": list(values)})
    found.notes.append(f"{min(values):.3g} to {max(values):.3g} {unit}")
    return found


def take_turns(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of every round of both, ours first; one round of each before, which does not count."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for side, work in zip(found, (ours, theirs), strict=True):
            seconds = clock(work)
            if turn:
                side.append(seconds)
    return found


def clock(work: Callable[[], Any]) -> float:
    """Seconds that something takes, the work on a card included."""
    settle()
    began = time.perf_counter()
    work()
    settle()
    return time.perf_counter() - began


def settle() -> None:
    """Wait for what a card still does."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
