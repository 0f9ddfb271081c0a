"""A loss that is no number, and memory that runs out: nothing broken reaches the weights, and the run says what it did."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from small_runs import train_small

from foundation.structures import InputError, RunError
from resmet.callbacks.batch_size_finder import Search
from resmet.callbacks.metrics_csv import read_rows
from resmet.callbacks.nan_guard import NanGuard
from tasks.optim.recipe import Recipe


class Break(Callback):
    """Let the loss of some steps be no number, as long as `when` says so; remember the weights before and after such a step."""

    def __init__(self, *steps: int, when: Any = lambda task: True) -> None:
        self.steps, self.when = steps, when
        self.moved: list[bool] = []

    def on_train_start(self, trainer, pl_module) -> None:
        right = type(pl_module).losses

        def losses(features: Any, batch: Any) -> Any:
            self.struck = trainer.fit_loop.total_batch_idx in self.steps and self.when(pl_module)
            poison = float("nan") if self.struck else 1.0
            return {name: value * poison for name, value in right(pl_module, features, batch).items()}

        pl_module.losses = losses

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.before = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.struck:
            pairs = zip(self.before, pl_module.parameters(), strict=True)
            self.moved.append(any(not torch.equal(old, new) for old, new in pairs))


def finite(folder: Path) -> bool:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"no number \(epoch 2, step 7\)\. The batch was digits.* is kept in .*The last checkpoint is from before; .*callbacks.guard",
    ):
        train_small("classification", tmp_path / "run", [Break(7), NanGuard()])
    kept = json.loads((tmp_path / "run" / "bad_batches" / "step-7.json").read_text())
    assert (kept["epoch"], kept["step"], len(kept["items"])) == (2, 7, 8)
    (batch,) = torch.load(tmp_path / "run" / "bad_batches" / "step-7.pt", weights_only=True)
    assert batch["names"] == kept["items"]
    assert finite(tmp_path / "run")


def test_a_rate_that_is_far_too_high_is_caught(tmp_path: Path) -> None:
    recipe = Recipe(partial(torch.optim.SGD, lr=1e25), gradient_clip_norm=0, warmup=0)
    with pytest.raises(RunError, match="the loss or its gradient is no number.*There is no checkpoint yet; lower"):
        train_small("segmentation", tmp_path / "run", recipe=recipe)


def test_a_step_is_left_out(tmp_path: Path, caplog) -> None:
    broken = Break(2, 7)
    train_small("classification", tmp_path / "run", [broken, NanGuard(nonfinite="skip")])
    assert broken.moved == [False, False]
    assert "The step is left out (2 of at most 10)" in caplog.text
    assert finite(tmp_path / "run")


def test_skipping_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="once more than callbacks.guard.limit=2"):
        train_small("classification", tmp_path / "run", [Break(2, 3, 4), NanGuard(nonfinite="skip", limit=2)])


def test_a_run_goes_back_and_on_at_a_lower_rate(tmp_path: Path, caplog) -> None:
    """What breaks at the full rate does not break at half of it."""
    guards = [Break(7, when=lambda task: task.lr_scale == 1), NanGuard(nonfinite="rollback")]
    train_small("classification", tmp_path / "run", guards)
    train_small("classification", tmp_path / "sound")
    assert "goes back to epoch 2, batch 0, at 0.5 of its rate" in caplog.text
    first, second = (read_rows(tmp_path / name / "metrics.csv") for name in ("run", "sound"))
    assert [row["step"] for row in first] == ["5", "10", "15"]
    assert first[0] == second[0]
    assert float(first[1]["lr"]) == pytest.approx(float(second[1]["lr"]) / 2)
    assert finite(tmp_path / "run")


def test_nothing_to_go_back_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no checkpoint to go back to"):
        train_small("classification", tmp_path / "run", [Break(1), NanGuard(nonfinite="rollback")])


class Small(Callback):
    """A machine with memory for so many items at once."""

    def __init__(self, room: int) -> None:
        self.room = room

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if len(batch["names"]) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_too_little_memory_is_said_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"out of memory at data.batch_size=8 .*lower data.batch_size.*trainer.batch_size=auto"
    ):
        train_small("classification", tmp_path / "run", [Small(4)])


def test_a_smaller_batch_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trying it out had found that it fits. Batches of 8 become 4 times 2, so that as many steps are taken; a run that is gone on with does not try again."""
    monkeypatch.setattr(Search, "fastest", lambda self, most: (1.0, "as asked"))
    train_small("classification", tmp_path / "run", [Small(2)], batch_size="auto", max_epochs=2)
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (result["epochs"], result["steps"]) == (2, 10)
    train_small("classification", tmp_path / "run", [Small(2)], batch_size="auto", max_epochs=3, resume=True)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 15


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"lr_factor": 1.0}, {"lr_factor": 0.0}])
def test_guards_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(InputError, match="callbacks.guard"):
        NanGuard(**wrong)
