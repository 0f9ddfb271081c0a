"""A finding, the result of a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.structures import pluralize

SEVERITIES = ("error", "warning", "note")
MAX_PART_LENGTH = 40  # characters of a file's or folder's name that are printed in full
MAX_WORDS = 5  # a place of more words is a sentence, printed on a line of its own
MAX_PLACES = 3  # places that the text names; the JSON has all of them


@dataclass(frozen=True)
class Finding:
    """One thing about the data that a person should know."""

    code: str  # stable, ``check.what``; scripts and tests compare it
    severity: str  # ``error``, training can't succeed; ``warning``, inspect it; ``note``, good to know
    message: str
    where: tuple[str, ...] = ()  # all files or items concerned
    remedy: str = ""

    @property
    def is_shortened(self) -> bool:
        """Whether the text leaves places out."""
        return len(self.where) > MAX_PLACES

    def lines(self) -> list[str]:
        """Returns the text: message, first places (one per line if they are sentences) and remedy."""
        places = [shorten(place) for place in self.where[:MAX_PLACES]]
        more = [f"and {len(self.where) - MAX_PLACES} more"] if self.is_shortened else []
        remedy = [f"-> {self.remedy}"] if self.remedy else []
        message = f"{self.message} [{self.code}]"
        if any(len(place.split()) > MAX_WORDS for place in places):
            return [f"{message}:", *(f"- {place}" for place in places), *more, *remedy]
        return [f"{message}: {' '.join([', '.join(places), *more])}" if places else message, *remedy]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values under the keys of the JSON report."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.message,
            "where": list(self.where),
            "count": len(self.where),
            "todo": self.remedy,
        }


def found(code: str, severity: str, where: Iterable[str], noun: str, what: str, remedy: str = "") -> list[Finding]:
    """Returns a finding whose message counts its places: ``3 clips silent``; nothing if there are none."""
    places = tuple(where)
    return [Finding(code, severity, f"{pluralize(len(places), noun)} {what}", places, remedy)] if places else []


def shorten(place: str) -> str:
    """Returns a path with its long parts cut in the middle; sentences stay whole."""
    if " " in place:
        return place
    return "/".join(
        part if len(part) <= MAX_PART_LENGTH else f"{part[:12]}...{part[-12:]}" for part in place.split("/")
    )


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings with errors first, then warnings, then notes."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def join_first(values: Sequence[object], limit: int = 6) -> str:
    """``a, b, c and 4 more``: the first `limit` values, and how many are left out."""
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(map(str, values[:limit])) + more


def most_common(values: Iterable[str], limit: int = 4) -> str:
    """``RGB (12), L (3)``: the most common values with their counts; a single value without a count."""
    counts = Counter(values)
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{value} ({number:,})" for value, number in counts.most_common(limit))
