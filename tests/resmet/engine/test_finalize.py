"""A run whose disk fills up never shows a score of other weights than those that it kept, and says what is left to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from small_runs import train_small

from foundation.structures import RunError
from resmet.checkpoints import checkpoint_io
from tasks.classification import Classification

WRITE = checkpoint_io.write


@pytest.fixture(autouse=True)
def better_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epoch is the best, and a test tells weights apart."""

    def results(task: Classification, stage: str) -> dict[str, float]:
        by_weights = float(next(task.parameters()).double().abs().sum())
        return {"accuracy": (1.0 + task.current_epoch) / 10 if stage == "val" else by_weights}

    monkeypatch.setattr(Classification, "results", results)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], None]:
    """Let the disk be full for what is written from an epoch on, while training alone or also in the test."""

    def fill(epoch: int, test: bool = True) -> None:
        testing = False

        def write(checkpoint: dict, target: Path, keep: int) -> None:
            if checkpoint["epoch"] >= epoch and not testing:
                raise OSError(28, "No space left on device")
            WRITE(checkpoint, target, keep)

        def free(trainer: Trainer, *more: object, **keys: object) -> object:
            nonlocal testing
            testing = not test
            return right(trainer, *more, **keys)

        right = Trainer.test
        monkeypatch.setattr(Trainer, "test", free)
        monkeypatch.setattr(checkpoint_io, "write", write)

    return fill


def figures(folder: Path) -> dict[str, dict[str, float]]:
    result = json.loads((folder / "metrics.json").read_text())
    return {name: result[name] for name in ("val", "test")}


def same_weights(one: Path, two: Path, name: str) -> None:
    first, second = (torch.load(f / "checkpoints" / name, weights_only=True)["state_dict"] for f in (one, two))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_the_best_that_no_disk_took_is_tested_and_not_claimed(tmp_path: Path, full, monkeypatch) -> None:
    whole, folder = train_small("classification", tmp_path / "whole"), tmp_path / "run"
    score = figures(whole)["test"]["accuracy"]
    full(2)
    with pytest.raises(RunError) as said:
        train_small("classification", folder, checkpoint_every="0.001s")
    assert f"test accuracy {score:.4f}), but its best.ckpt and last.ckpt could not be written" in str(said.value)
    assert f"Make room, or let the folder be written to, then resume={folder}, which repeats" in str(said.value)
    assert not (folder / "metrics.json").exists()
    kept = [torch.load(folder / "checkpoints" / name, weights_only=True) for name in ("best.ckpt", "last.ckpt")]
    assert kept[1]["callbacks"]["Saving"]["best"] == pytest.approx(
        (1 + kept[0]["epoch"]) / 10
    )  # none knows of what is not there

    with pytest.raises(RunError, match=rf"test accuracy {score:.4f}\)"):  # as full as before
        train_small("classification", folder, resume=True)
    assert not (folder / "metrics.json").exists()
    monkeypatch.setattr(checkpoint_io, "write", WRITE)
    train_small("classification", folder, resume=True)
    assert figures(folder) == figures(whole)
    for name in ("best.ckpt", "last.ckpt"):
        same_weights(whole, folder, name)


def test_room_that_comes_late_is_used(tmp_path: Path, full) -> None:
    whole, folder = train_small("classification", tmp_path / "whole"), tmp_path / "run"
    full(1, test=False)
    train_small("classification", folder)
    assert figures(folder) == figures(whole)
    for name in ("best.ckpt", "last.ckpt"):
        same_weights(whole, folder, name)


def test_no_checkpoint_at_all_is_said(tmp_path: Path, full) -> None:
    full(0)
    with pytest.raises(
        RunError, match="start anew, since there is no checkpoint at all: the same command with run_dir=.*resume=auto"
    ):
        train_small("classification", tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
