"""Checks of files as such: unreadable ones, wrong suffixes, gaps in the numbering, empty class folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from datamodules.splits.splits import split_name
from foundation.threads import map_in_threads
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding, found
from resmet.data_checks.scan.files import FILE_TYPES, SYSTEM_FILES, mismatch, modality_of

MAX_MISSING = 0.25  # fraction of a numbered series; if more are missing, the series was never meant to be complete
MIN_SERIES = 10  # files in a numbered series
NUMBERED = re.compile(r"((?:[^/]*/)*)([^/]*?)(\d{1,9})(?:\.[^./]*)?")
"""Folder with its slash, prefix and number of a file name."""


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds what the reader can't use, wrong and uppercase suffixes, gaps in the numbering and empty class folders."""
    if error := context.read_error:
        yield Finding(error.code, "error", str(error))
    remedy = "repair or remove them, or train without them: data.on_error=skip"
    yield from found("files.unusable_items", "error", context.unusable, "item", "can't be used", remedy)
    yield from wrong_suffixes(context)
    suffixes = {name: PurePosixPath(name).suffix for name in context.tree if modality_of(name)}
    upper = (name for name, suffix in suffixes.items() if suffix != suffix.lower())
    what = "with an uppercase suffix; they are read like the others"
    yield from found("files.uppercase_suffix", "note", upper, "file", what)
    yield from numbering_gaps(context)
    yield from empty_class_folders(context)


def wrong_suffixes(context: CheckContext) -> Iterator[Finding]:
    """Finds files whose signature contradicts their suffix, except empty ones that are reported as unusable."""
    names = [name for name in context.tree if modality_of(name)]
    types = map_in_threads(lambda name: mismatch(context.root / name), names)
    wrong: dict[tuple[str, str], list[str]] = defaultdict(list)
    reported = "\n".join(context.unusable)
    for name, kind in zip(names, types, strict=True):
        if kind and not (kind == "empty" and name in reported):
            wrong[PurePosixPath(name).suffix, kind].append(name)
    for (suffix, kind), members in sorted(wrong.items()):
        noun, what = f"{suffix} file", f"actually {kind}"
        if kind in FILE_TYPES:
            remedy = "they are read by their content; rename them for the sake of other programs"
            yield from found("files.wrong_suffix", "warning", members, noun, what, remedy)
        else:
            yield from found("files.not_media", "error", members, noun, what, "get the real files")


def numbering_gaps(context: CheckContext) -> Iterator[Finding]:
    """Finds missing numbers in numbered series that are nearly complete; the splits of a series are taken together."""
    series: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in context.tree:
        if modality_of(name) and (key := series_key(name)):
            series[key[:2]].add(key[2])
    for (folder, prefix), numbers in sorted(series.items()):
        span = max(numbers) - min(numbers) + 1
        missing = span - len(numbers)
        if len(numbers) >= MIN_SERIES and 0 < missing <= MAX_MISSING * span:
            series_name = f"{folder}{prefix}{min(numbers)} to {max(numbers)}"
            message = f"{missing} of {span} numbers missing in {series_name}; fine if intended"
            yield Finding("files.numbering_gaps", "note", message)


def series_key(name: str) -> tuple[str, str, int] | None:
    """Returns a file's folder without split names, the prefix of its name and its number; None if it isn't numbered."""
    match = NUMBERED.fullmatch(name)
    if not match:
        return None
    folder = "/".join(part for part in match[1].split("/") if not split_name(part))
    return folder, match[2], int(match[3])


def empty_class_folders(context: CheckContext) -> Iterator[Finding]:
    """Finds folders without a readable file beside the class folders: they make no class."""
    names = {context.relative(item.name).rpartition("/")[0] for _, item, _ in context.usable}
    parents = set(map(PurePosixPath, names))
    if not parents or not {p.name for p in parents} <= set(context.class_names):
        return
    media = {name for name in context.tree if modality_of(name) == context.modality}
    used = {str(parent) for name in media for parent in PurePosixPath(name).parents}
    beside = {str(parent.parent) for parent in parents}
    folders = [path for folder in sorted(beside) for path in sorted((context.root / folder).iterdir()) if path.is_dir()]
    visible = [path for path in folders if path.name not in SYSTEM_FILES and not path.name.startswith(".")]
    empty = (name for path in visible if (name := context.relative(str(path))) not in used)
    what, remedy = f"without {context.modality} files", "add files or remove the folder: it makes no class"
    yield from found("files.empty_class_folder", "warning", empty, "class folder", what, remedy)
