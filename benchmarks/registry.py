"""All rows of the table, collected from the modules of ``benchmarks/rows``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.ab_timing import Result, Settings

MODULES = ("training", "nets", "loading", "feature_cache", "startup", "scores", "gpu")
"""In the order of the table."""

ON_DEMAND = ("precision", "score", "gpu")
"""Groups that take minutes a row or need a GPU, and run only if they are named."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: ``group.what``.
        description: What is measured, a sentence.
        rival: What Resmet is compared with.
        measure: Measures the row.
        min_ratio: Target for the ratio.
        max_value: Target for the value, for a row without a rival.
    """

    name: str
    description: str
    rival: str
    measure: Callable[[Settings], Result]
    min_ratio: float | None = None
    max_value: float | None = None

    @property
    def group(self) -> str:
        return self.name.split(".")[0]

    @property
    def target(self) -> str:
        if self.max_value is not None:
            return f"at most {self.max_value:g}"
        return "" if self.min_ratio is None else f"{self.min_ratio:.3g}"

    def met(self, result: dict[str, Any]) -> bool | None:
        """Returns whether a result meets the target; None without a target."""
        if self.max_value is not None:
            return bool(result["ours"] <= self.max_value)
        return None if self.min_ratio is None else bool(result["ratio"] >= self.min_ratio)


def all_rows() -> dict[str, Row]:
    """Returns every row by its name, in the order of the table."""
    rows = [row for module in MODULES for row in import_module(f"benchmarks.rows.{module}").ROWS]
    return {row.name: row for row in rows}


def select(names: list[str]) -> list[Row]:
    """Returns the rows that `names` lists, each a row or a group; without names, all but the groups on demand.

    Raises:
        ValueError: If a name is neither a row nor a group.
    """
    rows = all_rows()
    known = set(rows) | {row.group for row in rows.values()}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no row or group {', '.join(unknown)}. Allowed: {', '.join(sorted(known))}")
    if not names:
        return [row for row in rows.values() if row.group not in ON_DEMAND]
    return [row for row in rows.values() if row.name in names or row.group in names]
