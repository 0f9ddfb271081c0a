"""One function on many items, in threads: reading and decoding release Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from foundation.hardware import cores

AHEAD = 8
"""Results per core that are computed before they are used: more would take memory and no less time."""

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields the results of `function` in the order of `items`, computed on all cores; only a few are in memory at a time."""
    threads = cores()
    results: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            results.append(pool.submit(function, item))
            if len(results) > AHEAD * threads:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
