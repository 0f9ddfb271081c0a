"""Files as such: what can't be read, what is not what its name says, what nobody asks for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count
from resmet.data_checks.scan.csv_columns import SPLITS
from resmet.data_checks.scan.file_tree import JUNK
from resmet.data_checks.scan.file_types import KINDS, family, lie

MOST_MISSING = 0.25  # of a numbered series; where more are missing, it was never meant to be whole


def findings(chart: Chart) -> Iterator[Finding]:
    """Unreadable files, suffixes that lie, empty files, capitals, gaps in the numbering, empty class folders."""
    if chart.refused:
        yield Finding("error", chart.refused)
    yield from unusable(chart)
    yield from lies(chart)
    capital = tuple(
        name for name in chart.tree if family(name) and PurePosixPath(name).suffix != PurePosixPath(name).suffix.lower()
    )
    if capital:
        yield Finding(
            "note",
            f"{count(len(capital), 'suffix is', 'suffixes are')} in capitals; they are read all the same",
            capital,
        )
    yield from gaps(chart)
    yield from hollow(chart)


def unusable(chart: Chart) -> Iterator[Finding]:
    """What the reader can't use, one finding a kind of trouble."""
    if messages := wrong(chart):
        yield Finding(
            "error",
            f"{count(len(messages), 'item')} can't be used",
            tuple(messages),
            "mend or remove them, or train without them: data.on_error=skip",
        )


def wrong(chart: Chart) -> list[str]:
    """What the reader said of every item that it can't use."""
    messages = [facts["error"] for facts in chart.facts.values() if "error" in facts]
    messages += chart.data.skipped if chart.data else []
    return [message.replace(f"{chart.root}/", "") for message in messages]


def lies(chart: Chart) -> Iterator[Finding]:
    """Files whose first bytes say something else than their suffix, but for empty ones that were told of already."""
    names = [name for name in chart.tree if family(name)]
    with ThreadPoolExecutor() as pool:
        truths = pool.map(lambda name: lie(chart.root / name), names)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    told = "\n".join(wrong(chart))
    for name, truth in zip(names, truths, strict=True):
        if truth and not (truth == "empty" and name in told):
            found[PurePosixPath(name).suffix, truth].append(name)
    for (suffix, truth), members in sorted(found.items()):
        readable = truth in KINDS
        said = f"really {truth}" if readable else truth
        yield Finding(
            "warning" if readable else "error",
            f"{count(len(members), f'{suffix} file is', f'{suffix} files are')} {said}",
            tuple(members),
            "read by the content where that can be read; rename them so that other programs read them, too"
            if readable
            else "fetch the real files",
        )


def gaps(chart: Chart) -> Iterator[Finding]:
    """Numbers missing where files are numbered through, all but a few; splits of one series are taken together."""
    series: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in chart.tree:
        path = PurePosixPath(name)
        if family(name) and (match := re.fullmatch(r"(.*?)(\d{1,9})", path.stem)):
            place = PurePosixPath(*(part for part in path.parts[:-1] if part.lower() not in SPLITS))
            series[str(place), match[1]].add(int(match[2]))
    for (folder, prefix), numbers in sorted(series.items()):
        span = max(numbers) - min(numbers) + 1
        missing = span - len(numbers)
        if len(numbers) >= 10 and 0 < missing <= MOST_MISSING * span:
            inside = "" if folder == "." else f"{folder}/"
            yield Finding(
                "note",
                f"{missing} of {span} numbers {'is' if missing == 1 else 'are'} missing in {inside}{prefix}{min(numbers)} to {max(numbers)}: right where that was on purpose",
            )


def hollow(chart: Chart) -> Iterator[Finding]:
    """Folders beside those of the classes that hold nothing to read, and so make no class."""
    if chart.guess.format not in ("image_folder", "audio_folder"):
        return
    held = {str(p) for name in chart.tree if family(name) == chart.guess.family for p in PurePosixPath(name).parents}
    inside = [path for path in sorted(chart.root.iterdir()) if path.is_dir()]
    splits = [path for path in inside if path.name.lower() in SPLITS]
    classes = [path for split in splits for path in sorted(split.iterdir()) if path.is_dir()] if splits else inside
    shown = [chart.shown(str(path)) for path in classes if path.name not in JUNK and not path.name.startswith(".")]
    where = tuple(name for name in shown if name not in held)
    if where:
        yield Finding(
            "warning",
            f"{count(len(where), 'class folder is', 'class folders are')} without a {chart.guess.family}",
            where,
            "fill them, or remove them: they make no class",
        )
