"""How fast is Resmet, side by side with others on this machine?

    python -m benchmarks                                  all rows except those of the groups precision, score and gpu
    python -m benchmarks epoch.classification step        chosen rows and groups
    python -m benchmarks --quick                          small counts, two rounds: does every row run?
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
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.registry import Row, all_rows, select
from benchmarks.table import describe_machine, document, terminal_table

ROOT = Path(__file__).parent.parent
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
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    results = measure(rows, given.json, given.quick, 2 if given.quick else given.rounds)
    content = merge(given.json, results, load)
    given.json.write_text(json.dumps(content, indent=2) + "\n")
    title = "quick: shows that the rows run" if given.quick else f"medians of {given.rounds} rounds or more"
    Console(width=None if sys.stdout.isatty() else 200).print(terminal_table(results, title))
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
    return parser


def measure(rows: list[Row], out: Path, quick: bool, rounds: int) -> dict[str, dict[str, Any]]:
    """Measures one row after another; the output of each goes to a log file in a folder beside `out`."""
    logs = out.parent / f"{out.stem}_logs"
    logs.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("RESMET_DATA", str(ROOT.parent / "shared" / "data"))
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"data": str(Path(data).resolve()), "scratch": scratch, "rounds": rounds, "quick": quick}
        for row in rows:
            start = time.monotonic()
            results[row.name] = in_process(row.name, settings, logs / f"{row.name}.log")
            state = next((word for word in ("absent", "failed") if word in results[row.name]), "done")
            print(f"{row.name}: {state} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def in_process(name: str, settings: dict[str, Any], log: Path) -> dict[str, Any]:
    """Returns the result of one row, measured by a process of its own."""
    out = Path(settings["scratch"]) / f"{name}.json"
    command = [sys.executable, "-m", "benchmarks.run_row", name, json.dumps(settings), str(out)]
    with log.open("w") as file:
        try:
            subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return {"quick": settings["quick"], "failed": f"took longer than {TIMEOUT} s"}
    if not out.is_file():
        return {"quick": settings["quick"], "failed": f"its process died, see {log.name}"}
    return dict(json.loads(out.read_text()))


def merge(path: Path, results: dict[str, dict[str, Any]], load: float) -> dict[str, Any]:
    """Adds results to those that the file already has from this machine."""
    machine = describe_machine()
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    rows = before.get("rows", {}) if before.get("machine") == machine else {}
    return {"machine": machine, "date": date.today().isoformat(), "load": load, "rows": rows | results}


if __name__ == "__main__":
    sys.exit(main())
