"""The rival runs inside a run of Resmet: both have the same number of rounds."""

from pathlib import Path

import pytest

from benchmarks.interleave import EpochTimer, StepTimer
from benchmarks.resmet_side import NO_AUGMENT, Repeat, epochs_with_warmup, limit_batches, run_train
from benchmarks.rivals.plain import plain_step

pytestmark = pytest.mark.slow

OVERRIDES = ("backbone=resnet20", "data.size=16", "data.batch_size=8", "trainer=cpu", *NO_AUGMENT)


def test_epochs_alternate(tmp_path: Path) -> None:
    finished: list[int] = []
    timer = EpochTimer(lambda: finished.append(len(timer.ours)))
    run_train([*OVERRIDES, *limit_batches(2), *epochs_with_warmup(2)], tmp_path, timer)
    assert finished == [0, 1, 2], "the rival's epoch precedes ours"
    assert len(timer.ours) == len(timer.theirs) == 3
    assert len(timer.scores) == 1, "validation runs at the end only"


def test_steps_alternate_on_the_same_batches(tmp_path: Path) -> None:
    timer = StepTimer(plain_step, 2)
    run_train([*OVERRIDES, "trainer.max_epochs=1"], tmp_path, timer, Repeat(2, 6))
    assert len(timer.ours) == len(timer.theirs) == 2
    assert timer.first_round > 0
