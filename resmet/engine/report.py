"""report.html: one self-contained file, to open without a server."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from foundation.storage.atomic import write_text

IMAGE_ORDER = ("curves", "predictions", "confusion", "precision_recall", "rate", "inputs")


def write_report(folder: Path, result: dict[str, Any], notes: Sequence[str]) -> Path:
    """Writes ``report.html`` from metrics, notes and ``pictures/``, and returns its path. Every text in it is escaped."""
    paths = sorted((folder / "pictures").glob("*.png"), key=image_order)
    images = [(path.stem.replace("_", " "), b64encode(path.read_bytes()).decode()) for path in paths]
    config = folder / "config.yaml"
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("report.html.j2")
    split = next((name for name in ("test", "val", "train") if result.get(name)), "val")
    settings = config.read_text() if config.is_file() else ""
    text = page.render(result=result, split=split, notes=notes, images=images, config=settings)
    text = text.encode("utf-8", "backslashreplace").decode()  # file names may not be valid Unicode
    write_text(folder / "report.html", text)
    return folder / "report.html"


def image_order(path: Path) -> tuple[int, str]:
    return next((i for i, name in enumerate(IMAGE_ORDER) if path.stem.endswith(name)), len(IMAGE_ORDER)), path.stem
