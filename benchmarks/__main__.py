"""How fast is it, side by side with others on this machine?

    python -m benchmarks                                  all rows but those of the slow groups precision and score
    python -m benchmarks epoch.classification step        chosen rows and groups
    python -m benchmarks --quick                          small counts, two rounds: does every row run?
    python -m benchmarks precision score --write          adds rows to outputs/benchmarks.json, and writes docs/performance.md of all

RESMET_DATA is the folder of real data sets; a row whose data is not there says so.
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

from benchmarks import machine
from benchmarks.rows import ROWS, Row, chosen
from benchmarks.table import document, on_terminal

ROOT = Path(__file__).parent.parent
LONGEST = 1800
"""Seconds after which a row is given up."""


def main() -> int:
    given = arguments().parse_args()
    if given.list:
        print("\n".join(f"{row.name:30} {row.rival}" for row in ROWS))
        return 0
    try:
        rows = chosen(given.rows)
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if given.rounds < 1:
        print(f"benchmarks: --rounds must be at least 1, got {given.rounds}", file=sys.stderr)
        return 2
    load = machine.load()
    found = measure(rows, given.json, given.quick, 2 if given.quick else given.rounds)
    content = merged(given.json, found, load)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(content, indent=2) + "\n")
    Console(width=None if sys.stdout.isatty() else 200).print(on_terminal(found, title(given.quick, given.rounds)))
    if given.write:
        (ROOT / "docs" / "performance.md").write_text(document(content))
    return 1 if any("failed" in result for result in found.values()) else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="rows or groups")
    parser.add_argument("--rounds", type=int, default=5, help="turns of either side that count")
    parser.add_argument("--quick", action="store_true", help="small counts, two rounds")
    parser.add_argument("--json", type=Path, default=ROOT / "outputs" / "benchmarks.json")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md of all rows in the JSON file")
    parser.add_argument("--list", action="store_true", help="name the rows")
    return parser


def title(quick: bool, rounds: int) -> str:
    return "quick: it runs, no more" if quick else f"medians of {rounds} rounds or more"


def measure(rows: list[Row], out: Path, quick: bool, rounds: int) -> dict[str, dict[str, Any]]:
    """Every row in turn, each in a process of its own; what it says goes to a file beside `out`."""
    logs = out.parent / f"{out.stem}_logs"
    logs.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("RESMET_DATA", str(ROOT.parent / "shared" / "data"))
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"data": str(Path(data).resolve()), "scratch": scratch, "rounds": rounds, "quick": quick}
        for row in rows:
            began = time.monotonic()
            found[row.name] = in_process(row.name, settings, logs / f"{row.name}.log")
            said = next((word for word in ("absent", "failed") if word in found[row.name]), "done")
            print(f"{row.name}: {said} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def in_process(name: str, settings: dict[str, Any], log: Path) -> dict[str, Any]:
    """The result of one row."""
    out = Path(settings["scratch"]) / f"{name}.json"
    words = [sys.executable, "-m", "benchmarks.row", name, json.dumps(settings), str(out)]
    with log.open("w") as file:
        try:
            subprocess.run(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=LONGEST, check=False)
        except subprocess.TimeoutExpired:
            return {"row": name, "doc": "", "quick": settings["quick"], "failed": f"took longer than {LONGEST} s"}
    if not out.is_file():
        return {"row": name, "doc": "", "quick": settings["quick"], "failed": f"its process died, see {log.name}"}
    return dict(json.loads(out.read_text()))


def merged(path: Path, found: dict[str, dict[str, Any]], load: float) -> dict[str, Any]:
    """What was found, and what is in the file of rows that were not measured now, if it is of this machine."""
    here = machine.describe()
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    kept = before.get("rows", {}) if before.get("machine") == here else {}
    return {"machine": here, "date": date.today().isoformat(), "load": load, "rows": kept | found}


if __name__ == "__main__":
    sys.exit(main())
