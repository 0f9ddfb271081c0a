"""A rival inside our run: as many turns of both, whatever the run does besides."""

from pathlib import Path

from benchmarks.beside import Epochs, Steps
from benchmarks.ours import STILL, Memory, rounds_of_epochs, run
from benchmarks.rivals.plain import stepping

WORDS = ("backbone=resnet20", "data.size=16", "data.batch_size=8", "trainer=cpu", *STILL)


def test_epochs_of_both_take_turns(tmp_path: Path) -> None:
    said: list[int] = []
    beside = Epochs(lambda: said.append(len(beside.ours)))
    run([*WORDS, "trainer.limit=2", *rounds_of_epochs(2)], tmp_path, beside)
    assert said == [0, 1, 2]  # the rival's epoch comes before ours
    assert len(beside.ours) == len(beside.theirs) == 3
    assert [score for score, _ in beside.reached] == [beside.reached[-1][0]]  # validated at the end alone


def test_steps_of_both_take_turns_on_the_same_batches(tmp_path: Path) -> None:
    beside = Steps(stepping, 2)
    run([*WORDS, "trainer.max_epochs=1"], tmp_path, beside, Memory(2, 6))
    assert len(beside.ours) == len(beside.theirs) == 2
    assert beside.first > 0
