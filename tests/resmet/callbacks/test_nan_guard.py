"""A NaN in the loss never reaches the weights, and the run stops, skips or rolls back as configured."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from refusals import refused
from run_files import read_checkpoint
from small_runs import train_small

from foundation.structures import RunError
from resmet.callbacks.metrics_csv import read_metrics_csv
from resmet.callbacks.nan_guard import NanGuard
from tasks.optim.recipe import Recipe


class Poison(Callback):
    """Makes the loss of some steps NaN while `when` holds, and records whether such a step moved the weights."""

    def __init__(self, *steps: int, when: Any = lambda task: True) -> None:
        self.steps, self.when = steps, when
        self.moved: list[bool] = []

    def on_train_start(self, trainer, pl_module) -> None:
        losses = type(pl_module).losses

        def poisoned(features: Any, batch: Any) -> Any:
            self.active = trainer.fit_loop.total_batch_idx in self.steps and self.when(pl_module)
            factor = float("nan") if self.active else 1.0
            return {name: value * factor for name, value in losses(pl_module, features, batch).items()}

        pl_module.losses = poisoned

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.before = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.active:
            pairs = zip(self.before, pl_module.parameters(), strict=True)
            self.moved.append(any(not torch.equal(old, new) for old, new in pairs))


def all_finite(folder: Path) -> bool:
    return all(value.isfinite().all() for value in read_checkpoint(folder)["state_dict"].values())


def test_a_nan_stops_the_run_and_saves_the_batch(tmp_path: Path) -> None:
    with refused("run.nonfinite", RunError) as refusal:
        train_small("classification", tmp_path / "run", [Poison(7), NanGuard()])
    saved = tmp_path / "run" / "bad_batches" / "step-7.json"
    assert str(saved) in str(refusal.value)
    content = json.loads(saved.read_text())
    assert (content["epoch"], content["step"], len(content["items"])) == (2, 7, 8)
    (batch,) = torch.load(saved.with_suffix(".pt"), weights_only=True)
    assert batch["names"] == content["items"]
    assert all_finite(tmp_path / "run")


def test_an_exploding_loss_stops_the_run_by_default(tmp_path: Path) -> None:
    recipe = Recipe(partial(torch.optim.SGD, lr=1e25), gradient_clip_norm=0, warmup=0)
    with refused("run.nonfinite", RunError):
        train_small("segmentation", tmp_path / "run", recipe=recipe)


def test_a_step_is_skipped(tmp_path: Path) -> None:
    poison = Poison(2, 7)
    train_small("classification", tmp_path / "run", [poison, NanGuard(nonfinite="skip")])
    assert poison.moved == [False, False]
    assert all_finite(tmp_path / "run")


def test_skipping_has_a_limit(tmp_path: Path) -> None:
    with refused("run.nonfinite_limit", RunError):
        train_small("classification", tmp_path / "run", [Poison(2, 3, 4), NanGuard(nonfinite="skip", limit=2)])


@pytest.mark.slow
def test_a_run_rolls_back_and_resumes_at_a_lower_learning_rate(tmp_path: Path) -> None:
    """The loss is NaN at the full learning rate only."""
    guards = [Poison(7, when=lambda task: task.run_state.lr_scale == 1), NanGuard(nonfinite="rollback")]
    train_small("classification", tmp_path / "rolled_back", guards)
    train_small("classification", tmp_path / "undisturbed")
    first, second = (read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("rolled_back", "undisturbed"))
    assert [row["step"] for row in first] == ["5", "10", "15"]
    assert first[0] == second[0]
    assert float(first[1]["lr"]) == pytest.approx(float(second[1]["lr"]) / 2)
    assert all_finite(tmp_path / "rolled_back")


def test_a_rollback_needs_a_checkpoint(tmp_path: Path) -> None:
    with refused("run.nonfinite", RunError):
        train_small("classification", tmp_path / "run", [Poison(1), NanGuard(nonfinite="rollback")])


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"lr_factor": 1.0}, {"lr_factor": 0.0}])
def test_arguments_out_of_range_are_refused(wrong: dict) -> None:
    with refused("config.out_of_range") as refusal:
        NanGuard(**wrong)
    assert f"callbacks.nan_guard.{next(iter(wrong))}" in str(refusal.value)
