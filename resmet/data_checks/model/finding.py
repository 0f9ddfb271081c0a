"""What was found: how bad, what, where, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "warning", "note")
LONG = 40  # signs of a file's or folder's name that are shown whole
SENTENCE = 5  # words from which a place is a sentence of its own
SHOWN = 3  # places that are named; the JSON has all


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know.

    Attributes:
        severity: ``error``, training can't go well; ``warning``, look at it; ``note``, good to know.
        what: What it is, with the number where that says something.
        where: Files or items concerned, all of them.
        todo: What to do; empty where there is nothing to do.
    """

    severity: str
    what: str
    where: tuple[str, ...] = ()
    todo: str = ""

    @property
    def cut(self) -> bool:
        """Whether there are more places than the text names."""
        return len(self.where) > SHOWN

    def lines(self) -> list[str]:
        """As text: what it is with the first places, a line each where those are sentences, and what to do."""
        places = [brief(place) for place in self.where[:SHOWN]]
        more = [f"and {len(self.where) - SHOWN} more"] if self.cut else []
        todo = [f"-> {self.todo}"] if self.todo else []
        if any(len(place.split()) > SENTENCE for place in places):
            return [f"{self.what}:", *(f"- {place}" for place in places), *more, *todo]
        return [f"{self.what}: {' '.join([', '.join(places), *more])}" if places else self.what, *todo]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"where": list(self.where), "count": len(self.where)}


def brief(place: str) -> str:
    """A place with the long parts of its path cut in the middle; sentences stay whole."""
    if " " in place:
        return place
    return "/".join(part if len(part) <= LONG else f"{part[:12]}...{part[-12:]}" for part in place.split("/"))


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def count(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[object], most: int = 6) -> str:
    """The first words, and how many more there are."""
    return ", ".join(map(str, words[:most])) + (f" and {len(words) - most} more" if len(words) > most else "")


def frequent(values: Iterable[str], most: int = 4) -> str:
    """The most frequent values with their numbers; a single one alone."""
    found = Counter(values)
    shown = ", ".join(f"{value} ({number:,})" for value, number in found.most_common(most))
    return shown if len(found) > 1 else next(iter(found), "")
