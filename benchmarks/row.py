"""One row in a process of its own, so that none finds what another left: python -m benchmarks.row NAME SETTINGS OUT."""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.rounds import Absent, Settings
from benchmarks.rows import ROWS


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """What the row came to, as plain values; under ``absent`` or ``failed`` why there is nothing."""
    row = next(row for row in ROWS if row.name == name)
    function = import_module(f"benchmarks.{row.module}").ROWS[name]
    found = {"row": name, "doc": " ".join(function.__doc__.split()), "quick": settings.quick}
    try:
        return found | function(settings).as_dict()
    except Absent as error:
        return found | {"absent": str(error)}
    except Exception as error:
        traceback.print_exc()
        return found | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def main() -> None:
    name, said, out = sys.argv[1:]
    values = json.loads(said)
    settings = Settings(Path(values["data"]), Path(values["scratch"]), values["rounds"], values["quick"])
    Path(out).write_text(json.dumps(measure(name, settings)))


if __name__ == "__main__":
    main()
