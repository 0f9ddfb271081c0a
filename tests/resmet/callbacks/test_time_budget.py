"""Runs with a time budget end in time, test included, and use it. Only batches move their clock."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from fake_clock import ChangeSpeed, FakeClock, train_timed
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from refusals import refused
from run_files import read_checkpoint, read_metrics
from small_runs import DATA, Kill, Killed

from resmet.callbacks.metrics_csv import read_metrics_csv
from resmet.callbacks.step_timer import StepTimer, steps_within
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe

SECONDS = st.floats(0.01, 50.0)


@given(SECONDS, st.integers(1, 100), SECONDS, st.floats(0, 5000))
def test_planned_steps_fit_and_one_more_does_not(step: float, steps: int, validation: float, left: float) -> None:
    fits = steps_within(left, step, steps, validation)
    epochs = -(-fits // steps)
    assert fits * step + epochs * validation <= left + 1e-6
    more = -(-(fits + 1) // steps)
    assert (fits + 1) * step + more * validation > left - 1e-6


def rates(folder: Path) -> list[float]:
    return [float(row["lr"]) for row in read_metrics_csv(folder / "metrics.csv")]


@pytest.mark.parametrize(
    ("factors", "batch"),
    [({}, 0), ({1: 3.0}, 0), ({2: 0.3}, 0), ({1: 2.0, 4: 0.5}, 2), ({6: 4.0}, 1)],
    ids=["constant", "slower", "faster", "slower, then faster", "slower at the end"],
)
@pytest.mark.slow
def test_a_run_ends_within_its_budget_and_uses_it(factors: dict[int, float], batch: int, tmp_path: Path) -> None:
    """At any speed; tested, and with a learning rate that only falls, to its minimum at the end."""
    clock = FakeClock()
    train_timed("classification", tmp_path / "run", clock, ChangeSpeed(factors, batch), time_budget=100.0)
    assert 75 <= clock.used <= 100
    metrics = read_metrics(tmp_path / "run")
    assert metrics["test"]["score"] is not None
    assert metrics["budget"]["seconds"] == 100
    lrs = rates(tmp_path / "run")
    assert lrs == sorted(lrs, reverse=True)
    assert lrs[-1] < 0.12 * lrs[0]


@pytest.mark.slow
def test_a_budget_shorter_than_an_epoch_trains_a_part_of_it(tmp_path: Path) -> None:
    clock = FakeClock(batch=10.0)
    train_timed("classification", tmp_path / "run", clock, time_budget=80.0)
    metrics = read_metrics(tmp_path / "run")
    assert metrics["epochs"] == 1
    assert 1 <= metrics["steps"] < 5
    assert clock.used <= 80


@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, 1])
def test_faster_steps_than_measured_extend_a_partial_epoch(batch: int, tmp_path: Path) -> None:
    clock = FakeClock(batch=20.0)
    train_timed("classification", tmp_path / "run", clock, ChangeSpeed({0: 0.3}, batch), time_budget=120.0)
    metrics = read_metrics(tmp_path / "run")
    assert metrics["budget"]["planned_steps"] < metrics["steps"]
    assert 0.7 * 120 <= clock.used <= 120


def test_a_budget_used_up_by_the_start_is_refused_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    with refused("trainer.budget_too_short"):
        train_timed("classification", tmp_path / "run", clock, time_budget=5.0)
    assert clock.time == 0


@pytest.mark.slow
def test_a_budget_that_is_too_short_is_refused_with_the_minimum(tmp_path: Path) -> None:
    with refused("trainer.budget_too_short") as refusal:
        train_timed("classification", tmp_path / "run", FakeClock(batch=10.0), time_budget=30.0)
    least = float(str(refusal.value).rsplit("time_budget=", 1)[1].split("s")[0])
    train_timed("classification", tmp_path / "again", FakeClock(batch=10.0), time_budget=least)
    assert read_metrics(tmp_path / "again")["steps"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("place", [{"step": 12}, {"validation": 2}], ids=["step", "validation"])
def test_a_resumed_run_has_the_rest_of_its_budget(place: dict[str, int], tmp_path: Path) -> None:
    """Both parts are within the budget together, the second continues the schedule of the first, and a finished run does nothing."""
    clock, again, folder = FakeClock(), FakeClock(), tmp_path / "run"
    with pytest.raises(Killed):
        train_timed("classification", folder, clock, Kill(**place), time_budget=100.0, checkpoint_every="0.001s")
    before = read_checkpoint(folder)["run_state"]
    assert before["seconds_used"] == pytest.approx(clock.time + clock.start, abs=2.5)
    train_timed("classification", folder, again, time_budget=100.0, resume=True)
    assert 75 <= before["seconds_used"] + again.used <= 100
    after = read_checkpoint(folder)["run_state"]
    assert (after["total_steps"], after["total_epochs"]) == (before["total_steps"], before["total_epochs"])
    lrs = rates(folder)
    assert lrs == sorted(lrs, reverse=True)
    train_timed("classification", folder, FakeClock(), time_budget=100.0, resume=True)
    assert rates(folder) == lrs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["detection", "segmentation", "audio", "joint"])
def test_every_task_trains_with_a_budget(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    train_timed(kind, tmp_path / "run", clock, time_budget=60.0)
    assert 0.7 * 60 <= clock.used <= 60
    assert read_metrics(tmp_path / "run")["test"]


class UnfrozenStages(Callback):
    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.counts.append(pl_module.unfrozen_stages)


@pytest.mark.slow
@pytest.mark.parametrize(
    "freeze",
    [
        FreezeSchedule(frozen=0.5),
        FreezeSchedule(frozen=1.0),
        FreezeSchedule(unfreezing=0.5),
        FreezeSchedule(frozen=0.3, unfreezing=0.4),
    ],
)
def test_stages_are_unfrozen_once_for_any_number_of_epochs(freeze: FreezeSchedule, tmp_path: Path) -> None:
    clock, stages = FakeClock(), UnfrozenStages()
    speed, recipe = ChangeSpeed({0: 0.5, 6: 0.5}), Recipe(freeze=freeze)
    train_timed("classification", tmp_path / "run", clock, stages, speed, time_budget=100.0, recipe=recipe)
    assert stages.counts == sorted(stages.counts)
    assert stages.counts[-1] == (0 if freeze.frozen == 1 else 5)
    assert clock.used <= 100


@pytest.mark.slow
def test_early_stopping_ends_a_run_before_its_budget(tmp_path: Path) -> None:
    stop = EarlyStopping("val/score", mode="max", patience=1, min_delta=2.0)
    train_timed("classification", tmp_path / "run", FakeClock(), stop, time_budget=100.0)
    assert read_metrics(tmp_path / "run")["epochs"] == 2


@pytest.mark.slow
def test_the_test_is_limited_by_its_own_limit() -> None:
    data = DATA["classification"]()
    data.setup("fit")
    data.datasets["test"] = data.datasets["train"]
    timer = StepTimer(data, FakeClock())
    timer.record(1.0, 10.0)
    whole, limited = (
        timer.final_seconds(Mock(world_size=1, limit_val_batches=1.0, limit_test_batches=limit)) for limit in (1.0, 1)
    )
    assert limited < whole


def test_accumulated_and_limited_batches_count_as_steps(tmp_path: Path) -> None:
    clock = FakeClock()
    train_timed(
        "classification",
        tmp_path / "run",
        clock,
        time_budget=100.0,
        accumulate_grad_batches=2,
        limit_train_batches=3,
        limit_val_batches=3,
        limit_test_batches=3,
    )
    metrics = read_metrics(tmp_path / "run")
    assert 75 <= clock.used <= 100
    assert metrics["epochs"] * 2 >= metrics["steps"] > metrics["epochs"] * 2 - 2
    assert metrics["epochs"] > 4


@pytest.mark.slow
def test_the_budget_includes_finding_a_batch_size_and_a_learning_rate(tmp_path: Path) -> None:
    clock, recipe = FakeClock(batch=0.1), Recipe(find_lr=True)
    train_timed("classification", tmp_path / "run", clock, time_budget=60.0, batch_size="auto", recipe=recipe)
    assert 0.75 * 60 <= clock.used <= 60
