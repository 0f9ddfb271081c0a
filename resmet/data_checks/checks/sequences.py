"""Checks of image sequences (slices of a volume, frames of a video): consecutive images look alike without being duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from foundation.structures import pluralize
from resmet.data_checks.checks.files import series_key
from resmet.data_checks.checks.near_duplicates import residuals
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding

MAX_RATIO = 0.9  # of the residual of consecutive images to that of distant ones; below it a series is a sequence
DISTANT = (7, 11, 13)  # distances in a series at which images are taken to be unrelated
MIN_PAIRS = 10  # consecutive and distant pairs that the comparison needs
MAX_PAIRS = 4000  # pairs that are compared

Frame = tuple[str, str, NDArray[np.uint8]]
"""Split, name and thumbnail."""


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds items of val or test that are numbered next to a training item, in series whose consecutive images look alike."""
    if context.modality != "image":
        return
    series: dict[tuple[str, str], dict[int, Frame]] = defaultdict(dict)
    for split, item, facts in context.usable:
        name = context.relative(item.name)
        if key := series_key(name):
            series[key[:2]][key[2]] = (split, name, facts["thumbnail"])
    near = [(own, s[n + 1]) for s in series.values() for n, own in s.items() if n + 1 in s]
    distant = [(own, s[n + k]) for s in series.values() for n, own in s.items() for k in DISTANT if n + k in s]
    if min(len(near), len(distant)) < MIN_PAIRS or median_residual(near) >= MAX_RATIO * median_residual(distant):
        return
    both_ways = [pair for own, other in near for pair in ((own, other), (other, own))]
    across = {own[1]: other[1] for own, other in both_ways if own[0] != "train" == other[0]}
    if across:
        yield Finding(
            "sequences.consecutive_across_splits",
            "note",
            f"{pluralize(len(across), 'item')} of val or test numbered next to a training item, in a sequence whose consecutive images "
            "look alike (slices, frames): the score doesn't tell how well the model does on another sequence",
            tuple(f"{name} next to {other}" for name, other in across.items()),
            "to measure that, keep whole stretches of a sequence in one split",
        )


def median_residual(pairs: list[tuple[Frame, Frame]]) -> float:
    """Returns the median residual of the pairs' thumbnails, of at most `MAX_PAIRS` of them."""
    sample = pairs[:: 1 + len(pairs) // MAX_PAIRS]
    first, second = (np.stack([pair[k][2] for pair in sample]) for k in (0, 1))
    return float(np.median(residuals(first, second)))
