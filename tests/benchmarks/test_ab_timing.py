"""Ratios are those of simultaneous rounds; sides alternate, and the first round is not counted."""

import pytest

from benchmarks.ab_timing import alternate, compare, compare_ms, summarize


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    result = compare([1.0, 2.0, 10.0], [3.0, 4.0, 20.0], "items/s", 12)
    assert (result.ratio, result.low, result.high, result.rounds) == (2.0, 2.0, 3.0, 3)
    assert (result.ours, result.theirs) == (6.0, 3.0)


def test_without_work_the_values_are_costs() -> None:
    result = compare_ms([0.002], [0.001])
    assert (result.ours, result.theirs, result.ratio) == (2.0, 1.0, 0.5)


def test_sides_with_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 and 0"):
        compare([1.0], [], "s")


def test_sides_alternate_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    ours, theirs = alternate(lambda: calls.append("ours"), lambda: calls.append("theirs"), 3)
    assert calls == ["ours", "theirs"] * 4
    assert len(ours) == len(theirs) == 3


def test_without_a_rival_there_is_no_ratio() -> None:
    result = summarize([3.0, 1.0, 2.0], "s")
    assert (result.ours, result.ratio, result.notes) == (2.0, None, ["1 to 3 s"])
