"""Ratios are of rounds that stand side by side; sides take turns, and the first round does not count."""

import pytest

from benchmarks.rounds import alone, compared, take_turns


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    found = compared([1.0, 2.0, 10.0], [3.0, 4.0, 20.0], "items/s", 12)
    assert (found.ratio, found.low, found.high, found.rounds) == (2.0, 2.0, 3.0, 3)
    assert (found.ours, found.theirs) == (6.0, 3.0)


def test_without_work_the_figures_are_the_costs() -> None:
    found = compared([2.0], [1.0], "s")
    assert (found.ours, found.theirs, found.ratio) == (2.0, 1.0, 0.5)


def test_rounds_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="as many rounds"):
        compared([1.0], [], "s")


def test_sides_take_turns_and_the_first_turn_does_not_count() -> None:
    said: list[str] = []
    ours, theirs = take_turns(lambda: said.append("ours"), lambda: said.append("theirs"), 3)
    assert said == ["ours", "theirs"] * 4
    assert len(ours) == len(theirs) == 3


def test_what_has_no_rival_has_no_ratio() -> None:
    found = alone([3.0, 1.0, 2.0], "s")
    assert (found.ours, found.ratio, found.notes) == (2.0, None, ["1 to 3 s"])
