"""Annotation files beside the media: tags that point to nothing, texts without an image, files that nobody asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count
from resmet.data_checks.run.inspect_items import target_files
from resmet.data_checks.scan.file_types import family
from resmet.data_checks.scan.formats import ANNOTATIONS, MASKS, PICTURES

TAGS = ("filename", "folder", "path")


def findings(chart: Chart) -> Iterator[Finding]:
    """What annotations and media say about each other."""
    if chart.guess.format == "voc":
        yield from tags(chart)
    if chart.guess.format == "yolo":
        yield from lonely(chart)
    yield from unused(chart)


def tags(chart: Chart) -> Iterator[Finding]:
    """Tags of Pascal VOC that name a file or a folder which is not there; the reader goes by the XML's own name."""
    wrong: dict[str, list[str]] = {tag: [] for tag in TAGS}
    for name in chart.tree:
        path = PurePosixPath(name)
        if path.parent.name not in ANNOTATIONS or path.suffix != ".xml":
            continue
        text = (chart.root / name).read_text(errors="replace")
        base = chart.root / path.parent.parent
        for tag in TAGS:
            match = re.search(rf"<{tag}>(.*?)</{tag}>", text)
            if match and not leads(base, tag, match[1].strip()):
                wrong[tag].append(f"{name} ({match[1].strip()})")
    for tag, where in wrong.items():
        if where:
            yield Finding(
                "note",
                f"the tag {tag} of {count(len(where), 'XML file')} points to nothing; it is not used",
                tuple(where),
            )


def leads(base: Path, tag: str, value: str) -> bool:
    """Whether what a tag says is there."""
    if tag == "path":
        return (base / value).is_file()
    if tag == "folder":
        return (base / value).is_dir() or base.name == value
    return any((base / folder / value).is_file() for folder in PICTURES)


def lonely(chart: Chart) -> Iterator[Finding]:
    """Text files of YOLO whose image is missing."""
    stems = {(path.stem, family(name)) for name in chart.tree for path in [PurePosixPath(name)]}
    texts = [name for name in chart.tree if name.endswith(".txt") and "labels" in PurePosixPath(name).parts[:-1]]
    where = tuple(name for name in texts if (PurePosixPath(name).stem, "picture") not in stems)
    if where:
        yield Finding(
            "warning",
            f"{count(len(where), 'text file has', 'text files have')} no image",
            where,
            "add the images or remove the texts",
        )


def unused(chart: Chart) -> Iterator[Finding]:
    """Pictures, sounds and clips that belong to no item."""
    if not chart.data:
        return
    items = [item for split in chart.splits.values() for item in split]
    used = {str(path) for item in items for path in [Path(item.name), *target_files(item.target)]}
    where = tuple(
        name
        for name in chart.tree
        if family(name) == chart.guess.family and str(chart.root / name) not in used and not elsewhere(chart, name)
    )
    if where and any(str(chart.root / name) in used for name in chart.tree):
        words = {"picture": "picture", "sound": "sound file", "video": "video file"}[chart.guess.family]
        yield Finding("note", f"{count(len(where), f'{words} belongs', f'{words}s belong')} to no item", where)


def elsewhere(chart: Chart, name: str) -> bool:
    """Whether a file is a mask of another format, or was left out because something is wrong with it, as is said already."""
    path = PurePosixPath(name)
    return path.parent.name.lower() in MASKS or any(
        path.stem in said for said in (chart.data.skipped if chart.data else [])
    )
