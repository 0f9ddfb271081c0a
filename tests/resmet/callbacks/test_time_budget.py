"""Runs that end on time. Clocks stand still here, but for what the steps are said to take: the machine's own noise is no matter."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from small_runs import Kill, Killed, train_small

from foundation.structures import InputError
from resmet.callbacks.cost_model import Cost, Course, course, planned
from resmet.callbacks.metrics_csv import read_rows
from tasks.base import Task
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe

POSITIVE = st.floats(0.01, 50.0)


@given(POSITIVE, st.integers(1, 100), POSITIVE, st.floats(0, 5000), st.floats(0, 20), st.booleans())
def test_a_course_fits_and_wastes_no_epoch(
    step: float, steps: int, judging: float, left: float, worth: float, needed: bool
) -> None:
    cost = Cost(step, steps, judging, 0)
    found = course(cost, left, worth, needed)
    assert found.steps * step + found.epochs * judging <= left + 1e-6
    assert left - found.steps * step - found.epochs * judging <= cost.epoch + max(worth, judging) + step
    assert math.ceil(found.steps / steps) == found.epochs
    if needed and left >= step + judging:
        assert found.steps >= 1


def test_a_plan_in_words() -> None:
    cost = Cost(0.5, 20, 2, 1)
    assert planned(Course(3, 60), cost) == "3 epochs planned, 12.0 s each"
    assert planned(Course(3, 47), cost) == "3 epochs planned, 12.0 s each, the last of them 7 of 20 steps"
    assert planned(Course(1, 5), cost) == "no whole epoch fits, 5 of its 20 steps planned, 0.50 s each"


class World:
    """A clock that only work moves: a step, a validation batch and a start-up take what they are said to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float = 2.0, judged: float = 0.4, start: float = 10.0):
        self.now, self.step, self.judged = 1000.0, step, judged
        for module in ("budget", "course", "timing", "saving"):
            monkeypatch.setattr(f"runs.{module}.time.monotonic", lambda: self.now)
        monkeypatch.setattr("resmet.callbacks.time_budget.since_start", lambda: start)
        monkeypatch.setattr("resmet.callbacks.step_timer.Crowding.now", lambda self: 1.0)
        self.slow(monkeypatch, "training_step", "step")  # a trial takes the same
        self.slow(monkeypatch, "judge", "judged")

    def slow(self, monkeypatch: pytest.MonkeyPatch, name: str, taken: str) -> None:
        right = getattr(Task, name)

        def slowly(*words: Any) -> Any:
            self.now += getattr(self, taken)
            return right(*words)

        monkeypatch.setattr(Task, name, slowly)

    @property
    def used(self) -> float:
        return self.now - 1000.0 + 10.0


class Slower(Callback):
    """From an epoch on everything takes longer, or shorter."""

    def __init__(self, world: World, factors: dict[int, float], batch: int = 0) -> None:
        self.world, self.factors, self.batch = world, factors, batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == self.batch and (factor := self.factors.get(trainer.current_epoch)):
            self.world.step *= factor
            self.world.judged *= factor


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def rates(folder: Path) -> list[float]:
    return [float(row["lr"]) for row in read_rows(folder / "metrics.csv")]


NOTHING: dict[int, float] = {}


@pytest.mark.parametrize(
    ("factors", "batch"),
    [(NOTHING, 0), ({1: 3.0}, 0), ({2: 0.3}, 0), ({1: 2.0, 4: 0.5}, 2), ({6: 4.0}, 1)],
    ids=["even", "slower", "faster", "up and down", "slow at the end"],
)
def test_a_run_ends_within_its_budget_and_uses_it(
    factors: dict, batch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog
) -> None:
    """Whatever the steps take on the way; tested, and with the rate at its floor in the end, without a jump up."""
    caplog.set_level(logging.INFO, "resmet")
    world = World(monkeypatch)
    train_small("classification", tmp_path / "run", [Slower(world, factors, batch)], time_budget=100.0)
    found = result(tmp_path / "run")
    assert 0.75 * 100 <= world.used + 3 <= 100  # the report takes none of this clock's time
    assert found["test"]["score"] is not None
    assert found["budget"]["seconds"] == 100
    falling = rates(tmp_path / "run")
    assert all(later <= earlier for earlier, later in zip(falling, falling[1:], strict=False))
    assert falling[-1] < 0.12 * falling[0]
    assert "budget 1:40: " in caplog.text


def test_where_no_epoch_fits_a_part_of_one_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "resmet")
    world = World(monkeypatch, step=10.0)
    train_small("classification", tmp_path / "run", time_budget=80.0)
    found = result(tmp_path / "run")
    assert found["epochs"] == 1
    assert 1 <= found["steps"] < 5
    assert world.used + 3 <= 80
    assert f"no whole epoch fits, {found['steps']} of its 5 steps planned, 10.00 s each" in caplog.text


@pytest.mark.parametrize("batch", [0, 1])
def test_a_part_of_an_epoch_grows_where_steps_turn_out_faster(
    batch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = World(monkeypatch, step=20.0)
    train_small("classification", tmp_path / "run", [Slower(world, {0: 0.3}, batch)], time_budget=120.0)
    found = result(tmp_path / "run")
    assert found["budget"]["planned_steps"] < found["steps"]
    assert 0.7 * 120 <= world.used + 3 <= 120


def test_a_budget_that_starting_has_used_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said before anything is tried out."""
    World(monkeypatch, step=10.0)
    with pytest.raises(
        InputError, match=r"time_budget=5s is too short: starting took 10 s: say time_budget=30s or more"
    ):
        train_small("classification", tmp_path / "run", time_budget=5.0)


def test_what_can_not_be_done_is_said_with_the_least_that_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    World(monkeypatch, step=10.0)
    with pytest.raises(InputError, match=r"time_budget=30s is too short: .* say time_budget=(\d+)s or more") as said:
        train_small("classification", tmp_path / "run", time_budget=30.0)
    least = float(str(said.value).rsplit("budget=", 1)[1].split("s")[0])
    World(monkeypatch, step=10.0)
    train_small("classification", tmp_path / "again", time_budget=least)
    assert result(tmp_path / "again")["steps"] >= 1


@pytest.mark.parametrize("place", [{"step": 12}, {"validation": 2}])
def test_a_run_that_is_gone_on_with_has_what_is_left(
    place: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The time until the last checkpoint, the new start, and the rest are within the budget; the plan is gone on with."""
    world = World(monkeypatch)
    with pytest.raises(Killed):
        train_small("classification", tmp_path / "run", [Kill(**place)], time_budget=100.0, checkpoint_every="0.001s")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    used, before = last["budget"]["used"], last["budget"]["pace"]
    assert used == pytest.approx(world.used, abs=2.5)
    again = World(monkeypatch)
    train_small("classification", tmp_path / "run", time_budget=100.0, resume=True)
    assert 75 <= used + again.used + 3 <= 100
    after = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["budget"]["pace"]
    assert (after["steps"], after["epochs"]) == (before["steps"], before["epochs"])
    falling = rates(tmp_path / "run")
    assert all(later <= earlier for earlier, later in zip(falling, falling[1:], strict=False))
    train_small("classification", tmp_path / "run", time_budget=100.0, resume=True)  # is finished
    assert rates(tmp_path / "run") == falling


@pytest.mark.parametrize("kind", ["detection", "segmentation", "audio", "joint"])
def test_every_task_has_a_budget(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch)
    train_small(kind, tmp_path / "run", time_budget=60.0)
    assert 0.7 * 60 <= world.used + 3 <= 60
    assert result(tmp_path / "run")["test"]


@pytest.mark.parametrize(
    "plan",
    [
        FreezeSchedule(frozen=0.5),
        FreezeSchedule(frozen=1.0),
        FreezeSchedule(unfreezing=0.5),
        FreezeSchedule(frozen=0.3, unfreezing=0.4),
    ],
)
def test_freezing_keeps_its_shares(plan: FreezeSchedule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stages wake once and stay awake, whatever number of epochs the run comes to."""
    world, unfrozen_stages = World(monkeypatch), []

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            unfrozen_stages.append(pl_module.unfrozen_stages)

    more = [Look(), Slower(world, {0: 0.5, 6: 0.5})]
    train_small("classification", tmp_path / "run", more, time_budget=100.0, recipe=Recipe(freeze=plan))
    assert unfrozen_stages == sorted(unfrozen_stages)
    assert unfrozen_stages[-1] == (0 if plan.frozen == 1 else 5)
    assert world.used + 3 <= 100


def test_it_goes_with_early_stopping_accumulation_and_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    World(monkeypatch)
    stop = EarlyStopping("val/score", mode="max", patience=1, min_delta=2.0)
    train_small("classification", tmp_path / "stopped", [stop], time_budget=100.0)
    assert result(tmp_path / "stopped")["epochs"] == 2
    world = World(monkeypatch)
    train_small("classification", tmp_path / "run", time_budget=100.0, accumulate=2, limit=3)
    assert 0.75 * 100 <= world.used + 3 <= 100
    found = result(tmp_path / "run")
    assert found["epochs"] * 2 >= found["steps"] > found["epochs"] * 2 - 2
    assert found["epochs"] > 4


def test_it_goes_with_what_is_found_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The search for a batch size and a rate takes of the budget."""
    world = World(monkeypatch, step=0.1)
    monkeypatch.setattr("resmet.callbacks.batch_size_finder.time.monotonic", lambda: world.now)
    train_small("classification", tmp_path / "run", time_budget=60.0, batch_size="auto", recipe=Recipe(find_lr=True))
    assert 0.75 * 60 <= world.used + 3 <= 60
