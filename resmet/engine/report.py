"""report.html: one file with everything in it, to open without a server."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from foundation.storage.atomic import write_text

ORDER = ("curves", "predictions", "confusion", "precision_recall", "rate", "inputs")


def write_report(folder: Path, result: dict[str, Any], notes: Sequence[str]) -> Path:
    """Write ``report.html`` from figures, notes and ``pictures/``; every text in it is escaped."""

    def place(path: Path) -> tuple[int, str]:
        return next((i for i, word in enumerate(ORDER) if path.stem.endswith(word)), len(ORDER)), path.stem

    paths = sorted((folder / "pictures").glob("*.png"), key=place)
    pictures = [(path.stem.replace("_", " "), b64encode(path.read_bytes()).decode()) for path in paths]
    config = folder / "config.yaml"
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("report.html.j2")
    text = page.render(
        result=result, notes=notes, pictures=pictures, config=config.read_text() if config.is_file() else ""
    )
    text = text.encode("utf-8", "backslashreplace").decode()  # a file's name may hold what no encoding has
    write_text(folder / "report.html", text)
    return folder / "report.html"
