"""A run whose disk fills up never reports a score of other weights than those on disk, and resumes to the same results."""

from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refused
from run_files import assert_same_weights, read_checkpoint, read_metrics
from small_runs import train_small

from foundation.structures import RunError
from resmet.callbacks.checkpoint import CheckpointWriter
from resmet.checkpoints import checkpoint_io
from tasks.classification import Classification

WRITE = checkpoint_io.write_checkpoint
SCORES = [0.1, 0.2, 0.3]
"""The validation score of every epoch."""

Fill = Callable[[Callable[[int, str], bool]], None]


@pytest.fixture(autouse=True)
def known_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the last epoch is the best; the test metric differs between weights."""
    SCORES[:] = [0.1, 0.2, 0.3]

    def compute_metrics(task: Classification, stage: str) -> dict[str, float]:
        by_weights = float(next(task.parameters()).double().abs().sum())
        return {"accuracy": SCORES[task.current_epoch] if stage == "val" else by_weights}

    monkeypatch.setattr(Classification, "compute_metrics", compute_metrics)


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Makes writes fail where `full` is true of the epoch and the file name of a checkpoint."""

    def fill(full: Callable[[int, str], bool]) -> None:
        def write(checkpoint: dict, target: Path, keep: int = 0) -> None:
            if full(checkpoint["epoch"], target.name):
                raise OSError(28, "No space left on device")
            WRITE(checkpoint, target, keep)

        monkeypatch.setattr(checkpoint_io, "write_checkpoint", write)

    return fill


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    return {name: read_metrics(folder)[name] for name in ("val", "test")}


def assert_best_is_on_disk(folder: Path) -> None:
    """``last.ckpt`` names the score of the weights in ``best.ckpt``."""
    best, last = (read_checkpoint(folder, name) for name in ("best", "last"))
    assert last["callbacks"]["CheckpointWriter"]["best"] == pytest.approx(SCORES[best["epoch"]])


@pytest.mark.slow
@pytest.mark.parametrize("which", [("best.ckpt", "last.ckpt"), ("best.ckpt",), ("last.ckpt",)])
def test_a_full_disk_at_the_end_is_reported_and_resumed(tmp_path: Path, fill: Fill, which: tuple[str, ...]) -> None:
    whole, folder = train_small("classification", tmp_path / "whole"), tmp_path / "run"
    fill(lambda epoch, name: epoch >= 2 and name in which)
    with refused("checkpoint.not_written", RunError) as error:
        train_small("classification", folder, checkpoint_every="0.001s")
    assert f"resume={folder}" in str(error.value)
    assert not (folder / "metrics.json").exists()
    if "best.ckpt" in which:
        assert_best_is_on_disk(folder)
    fill(lambda epoch, name: False)
    train_small("classification", folder, resume=True)
    assert metrics(folder) == metrics(whole)
    assert_best_is_on_disk(folder)
    for name in ("best", "last"):
        assert_same_weights(whole, folder, name)


def test_the_score_is_that_of_the_best_weights_on_disk(tmp_path: Path, fill: Fill) -> None:
    """Epoch 1 was the best, but its weights could not be written."""
    fill(lambda epoch, name: epoch == 1 and name == "best.ckpt")
    SCORES[:] = [0.2, 0.5, 0.1]
    folder = train_small("classification", tmp_path / "run")
    assert metrics(folder)["val"]["score"] == pytest.approx(0.2)
    assert read_checkpoint(folder, "best")["epoch"] == 0


def test_a_run_without_any_checkpoint_is_started_again(tmp_path: Path, fill: Fill) -> None:
    fill(lambda epoch, name: True)
    with refused("checkpoint.not_written", RunError) as error:
        train_small("classification", tmp_path / "run")
    assert f"run_dir={tmp_path / 'run'} resume=auto" in str(error.value)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("background", [True, False])
def test_a_run_can_stop_where_a_checkpoint_fails(tmp_path: Path, fill: Fill, background: bool) -> None:
    fill(lambda epoch, name: True)
    writer = CheckpointWriter(on_failure="stop", background=background)
    with refused("checkpoint.not_written", RunError) as error:
        train_small("classification", tmp_path / "run", [writer])
    assert "on_failure=stop" in str(error.value)
