"""How fast is Resmet, side by side with others on this machine?

    python -m benchmarks                                  all rows except those of the groups precision, score and gpu
    python -m benchmarks epoch.classification step        chosen rows and groups
    python -m benchmarks --quick                          small counts, two rounds: does every row run?
    python -m benchmarks gpu                              the rows of a GPU, in less than 9 minutes
    python -m benchmarks precision score --write          adds rows to outputs/benchmarks.json, then writes docs/performance.md from it

RESMET_DATA is the folder of the real data sets; a row whose data set is absent reports that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Absent, Row, Settings, all_rows, select
from benchmarks.table import describe_machine, document, table

DATA = os.environ.get("RESMET_DATA", str(ROOT.parent / "shared" / "data"))
TIMEOUT = 1800
"""Seconds after which a row is stopped."""


def main() -> int:
    given = arguments().parse_args()
    if given.list:
        print("\n".join(f"{row.name:30} {row.rival}" for row in all_rows().values()))
        return 0
    try:
        rows = select(given.rows)
        if given.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {given.rounds}")
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if given.scratch:  # the process of one row
        settings = Settings(Path(DATA).resolve(), given.scratch, 2 if given.quick else given.rounds, given.quick)
        given.json.write_text(json.dumps(measure(rows[0], settings)))
        return 0
    load = os.getloadavg()[0]
    results = {row.name: measure_in_process(row, given) for row in rows}
    content = merge(given.json, results, load)
    given.json.write_text(json.dumps(content, indent=2) + "\n")
    print(table(results))
    if given.write:
        (ROOT / "docs" / "performance.md").write_text(document(content))
    return 1 if any("failed" in result for result in results.values()) else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="rows or groups")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side that count")
    parser.add_argument("--quick", action="store_true", help="small counts, two rounds")
    parser.add_argument("--json", type=Path, default=ROOT / "outputs" / "benchmarks.json")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md from all rows in the JSON file")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser


def measure(row: Row, settings: Settings) -> dict[str, Any]:
    """Returns the row's result as plain values; the reason for having none is under ``absent`` or ``failed``."""
    try:
        return {"quick": settings.quick} | asdict(row.measure(settings))
    except Absent as error:
        return {"quick": settings.quick, "absent": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"quick": settings.quick, "failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}


def measure_in_process(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """Measures a row in a process free of the state that other rows leave; its output goes to a log beside the JSON file."""
    log = given.json.parent / f"{given.json.stem}_logs" / f"{row.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as output:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "benchmarks", row.name, f"--rounds={given.rounds}", f"--json={out}"]
        command += [f"--scratch={scratch}", *(["--quick"] if given.quick else [])]
        try:
            subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, timeout=TIMEOUT)
            result = json.loads(out.read_text())
        except (subprocess.TimeoutExpired, FileNotFoundError) as error:
            result = {"quick": given.quick, "failed": f"{type(error).__name__}, see {log.name}"}
    state = next((word for word in ("absent", "failed") if word in result), "done")
    print(f"{row.name}: {state} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return dict(result)


def merge(path: Path, results: dict[str, dict[str, Any]], load: float) -> dict[str, Any]:
    """Adds results to those that the file already has from this machine."""
    machine = describe_machine()
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    rows = before.get("rows", {}) if before.get("machine") == machine else {}
    return {"machine": machine, "date": date.today().isoformat(), "load": load, "rows": rows | results}


if __name__ == "__main__":
    sys.exit(main())
