"""Measures one row in a process of its own, free of the state that other rows leave: python -m benchmarks.run_row NAME SETTINGS OUT."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.ab_timing import Absent, Settings
from benchmarks.registry import Row, all_rows


def measure(row: Row, settings: Settings) -> dict[str, Any]:
    """Returns the row's result as plain values; the reason for having none is under ``absent`` or ``failed``."""
    try:
        return {"quick": settings.quick} | asdict(row.measure(settings))
    except Absent as error:
        return {"quick": settings.quick, "absent": str(error)}
    except Exception as error:
        traceback.print_exc()
        lines = str(error).splitlines()
        return {"quick": settings.quick, "failed": f"{type(error).__name__}: {lines[0] if lines else ''}"}


def main() -> None:
    name, settings, out = sys.argv[1:]
    values = json.loads(settings)
    values |= {key: Path(values[key]) for key in ("data", "scratch")}
    Path(out).write_text(json.dumps(measure(all_rows()[name], Settings(**values))))


if __name__ == "__main__":
    main()
