"""One function on many items, in threads."""

from collections.abc import Iterator

from foundation.hardware import cores
from foundation.threads import AHEAD, map_in_threads


def test_results_are_in_order_and_few_are_computed_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    ahead = [len(taken) - result for result in map_in_threads(lambda i: i, items())]
    assert len(ahead) == 1000
    assert max(ahead) <= AHEAD * cores() + 1
    assert list(map_in_threads(str, range(50))) == [str(i) for i in range(50)]
