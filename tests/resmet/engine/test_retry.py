"""A run resumes after dead loader workers, and halves the batch size after running out of memory."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from refusals import refused
from run_files import assert_same_runs, read_metrics
from small_runs import train_small

from foundation.structures import RunError
from resmet.callbacks.batch_size_finder import BatchSizeSearch
from resmet.engine.retry import MAX_WORKER_FAILURES


class DyingWorkers(Callback):
    """Raises torch's error for a dead loader worker before the given steps, once each."""

    def __init__(self, *steps: int) -> None:
        self.steps = list(steps)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.steps and trainer.global_step == self.steps[0]:
            self.steps.pop(0)
            raise RuntimeError("DataLoader worker (pid 42) is killed by signal: Killed. ")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [(2,), (7, 12)], ids=["before a checkpoint", "after checkpoints"])
def test_a_run_resumes_after_dead_workers(tmp_path: Path, steps: tuple[int, ...], caplog) -> None:
    """Without a checkpoint it starts again; either way it ends as an uninterrupted run."""
    train_small("classification", tmp_path / "run", [DyingWorkers(*steps)])
    train_small("classification", tmp_path / "undisturbed")
    assert_same_runs(tmp_path / "run", tmp_path / "undisturbed")
    assert caplog.text.count("DataLoader worker (pid 42)") == len(steps)


def test_workers_that_die_too_often_end_the_run(tmp_path: Path) -> None:
    with refused("data.worker_died", RunError) as error:
        train_small("classification", tmp_path / "run", [DyingWorkers(*[0] * (MAX_WORKER_FAILURES + 1))])
    assert "data.num_workers=0" in str(error.value)


class SmallMemory(Callback):
    """A GPU with memory for `items` at once."""

    def __init__(self, items: int) -> None:
        self.items = items

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if len(batch["names"]) > self.items:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_out_of_memory_names_the_batch_size_and_the_remedy(tmp_path: Path) -> None:
    with refused("run.out_of_memory", RunError) as error:
        train_small("classification", tmp_path / "run", [SmallMemory(4)])
    assert "data.batch_size=8" in str(error.value)
    assert "trainer.batch_size=auto" in str(error.value)


@pytest.mark.slow
def test_after_out_of_memory_smaller_batches_are_accumulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 8 become 4 times 2, with the same items per step; a resumed run does not search again."""
    monkeypatch.setattr(BatchSizeSearch, "fastest", lambda *_: (1.0, "as configured"))
    more = {"batch_size": "auto"}
    train_small("classification", tmp_path / "run", [SmallMemory(2)], max_epochs=2, **more)
    result = read_metrics(tmp_path / "run")
    assert (result["epochs"], result["steps"]) == (2, 10)
    train_small("classification", tmp_path / "run", [SmallMemory(2)], max_epochs=3, resume=True, **more)
    assert read_metrics(tmp_path / "run")["steps"] == 15
