"""The two sides of a row alternate, and the first round is not counted; ratios are those of simultaneous rounds."""

from pathlib import Path

import pytest

from benchmarks.measure import ON_DEMAND, alternate, compare, compare_ms, select, summarize
from benchmarks.resmet_side import (
    NO_AUGMENT,
    Interleave,
    epochs_with_warmup,
    interleave_steps,
    limit_batches,
    run_train,
)
from benchmarks.rivals.plain import plain_step

OVERRIDES = ("backbone=resnet20", "data.size=16", "data.batch_size=8", "trainer=cpu", *NO_AUGMENT)


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    result = compare([1.0, 2.0, 10.0], [3.0, 4.0, 20.0], "items/s", lambda seconds: 12 / seconds)
    assert (result.ratio, result.low, result.high, result.rounds) == (2.0, 2.0, 3.0, 3)
    assert (result.ours, result.theirs) == (6.0, 3.0)


def test_milliseconds_a_step() -> None:
    result = compare_ms([0.004], [0.002], size=2)
    assert (result.ours, result.theirs, result.ratio) == (2.0, 1.0, 0.5)


def test_without_a_rival_there_is_no_ratio() -> None:
    result = summarize([3.0, 1.0, 2.0], "s")
    assert (result.ours, result.ratio, result.notes) == (2.0, None, ["1 to 3 s"])


def test_functions_alternate() -> None:
    calls: list[str] = []
    ours, theirs = alternate(lambda: calls.append("ours"), lambda: calls.append("theirs"), 3)
    assert calls == ["ours", "theirs"] * 4
    assert len(ours) == len(theirs) == 3


@pytest.mark.slow
def test_epochs_alternate(tmp_path: Path) -> None:
    finished: list[int] = []
    clock = Interleave(lambda trainer: lambda: finished.append(len(clock.ours)))
    run_train([*OVERRIDES, *limit_batches(2), *epochs_with_warmup(2)], tmp_path, clock)
    assert finished == [0, 1, 2], "the rival's epoch precedes ours"
    assert len(clock.ours) == len(clock.theirs) == 3
    assert len(clock.scores) == 1, "validation runs at the end only"


@pytest.mark.slow
def test_steps_alternate_on_the_same_batches(tmp_path: Path) -> None:
    clock = interleave_steps(OVERRIDES, plain_step, 2, 2, tmp_path)
    assert len(clock.ours) == len(clock.theirs) == 3


def test_groups_on_demand_run_only_if_named() -> None:
    assert not any(row.group in ON_DEMAND for row in select([]))
    assert {row.group for row in select(["score", "startup.help"])} == {"score", "startup"}


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"epoch\.clasification"):
        select(["epoch.clasification"])
