"""Pictures that follow each other, slices in depth or frames in time: neighbours look alike, though they are no copies."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from resmet.data_checks.checks.near_duplicates import SIDE, rest
from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count
from resmet.data_checks.scan.csv_columns import SPLITS

CLOSER = 0.9  # times what strangers of a series have apart: neighbours below it do follow each other
STRANGERS = (7, 11, 13)  # numbers apart that two of a series are taken to be strangers at
LEAST = 10  # pairs of neighbours, and of strangers, that such a thing can be said of
MOST = 4000  # pairs that are compared


def findings(chart: Chart) -> Iterator[Finding]:
    """Items of val or test that are numbered next to one of training, in a series whose neighbours look alike."""
    series: dict[tuple[str, str], dict[int, tuple[str, str, bytes]]] = defaultdict(dict)
    for split, item, facts in chart.seen():
        path = PurePosixPath(chart.shown(item.name))
        if "thumb" in facts and (match := re.fullmatch(r"(.*?)(\d{1,9})", path.stem)):
            place = PurePosixPath(*(part for part in path.parts[:-1] if part.lower() not in SPLITS))
            series[str(place), match[1]][int(match[2])] = (split, str(path), facts["thumb"])
    near = [(own, s[n + 1]) for s in series.values() for n, own in s.items() if n + 1 in s]
    far = [(own, s[n + k]) for s in series.values() for n, own in s.items() for k in STRANGERS if n + k in s]
    if min(len(near), len(far)) < LEAST or np.median(apart(near)) >= CLOSER * np.median(apart(far)):
        return
    torn = {own[1]: other[1] for pair in near for own, other in (pair, pair[::-1]) if own[0] != "train" == other[0]}
    if torn:
        yield Finding(
            "note",
            f"{count(len(torn), 'item')} of val or test {'is' if len(torn) == 1 else 'are'} numbered next to one of training, and neighbours look alike here, as slices and frames do: the score says little about another series",
            tuple(f"{name} next to {other}" for name, other in torn.items()),
            "keep stretches of the series in one split, if that is to be judged",
        )


def apart(pairs: list[tuple[tuple[str, str, bytes], tuple[str, str, bytes]]]) -> NDArray[np.float32]:
    """Pairs of items -> (K,) how much of each remains after the other, of every n-th pair where there are very many."""
    some = pairs[:: 1 + len(pairs) // MOST]
    first, second = (
        np.stack([np.frombuffer(pair[k][2], np.uint8).reshape(SIDE, SIDE) for pair in some]) for k in (0, 1)
    )
    return rest(first, second)
