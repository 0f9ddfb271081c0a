"""The study of a sweep: what it holds, how it is resumed, and what is refused in it."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pickles import Payload
from refusals import refused
from sweep_space import space_of

from resmet.sweeps.launchers import LocalLauncher
from resmet.sweeps.search import Grid, Optuna, Search
from resmet.sweeps.search_space import Space
from resmet.sweeps.study import SweepStudy
from resmet.sweeps.trial import Trial

SPACE = (
    "recipe.optimizer.lr=tag(log,interval(1e-5,1))",
    "backbone=resnet18,timm",
    "data.size=range(32,65,16)",
    "trainer.max_epochs=int(interval(1,5))",
)


def open_study(folder: Path, space: Space, search: Search | None = None) -> SweepStudy:
    folder.mkdir(exist_ok=True)
    return SweepStudy(folder, space, search or Optuna(LocalLauncher(), startup_trials=3), 7, 4)


def play(folder: Path, space: Space, until: int) -> list[Trial]:
    """Trials as a sweep would have them, without running anything: the score is best at a learning rate of 0.01."""
    study = open_study(folder, space)
    while len(study.trials()) < until:
        trial = study.ask()
        score = -abs(float(trial.values["recipe.optimizer.lr"]) - 0.01) - len(trial.values["backbone"])
        study.save(replace(trial, status="done", score=score))
    return study.trials()


def test_a_resumed_search_samples_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    space = space_of(*SPACE)
    whole = play(tmp_path / "a", space, 9)
    play(tmp_path / "b", space, 5)
    assert play(tmp_path / "b", space, 9) == whole
    assert len({trial.overrides for trial in whole}) == 9
    for trial in whole:
        assert trial.values["backbone"] in ("resnet18", "timm")
        assert trial.values["data.size"] in ("32", "48", "64")
        assert int(trial.values["trainer.max_epochs"]) in range(1, 6)
        assert 1e-5 <= float(trial.values["recipe.optimizer.lr"]) <= 1


@pytest.mark.parametrize("search", [Grid(LocalLauncher()), Optuna(LocalLauncher(), pruner="hyperband")])
def test_a_trial_is_stored_with_its_values_and_its_scores(tmp_path: Path, search: Search) -> None:
    space = space_of("backbone=resnet18,timm", "seed=range(0,1000,1)")
    first = open_study(tmp_path, space, search).ask()
    study = open_study(tmp_path, space, search)
    assert study.trials() == [first]
    assert study.ask().values != first.values
    assert not study.report(0, {1: 0.5})
    assert not open_study(tmp_path, space, search).report(0, {1: 0.5}), "a resumed trial reports its epochs again"


def test_a_trial_whose_values_were_not_all_stored_is_sampled_again(tmp_path: Path) -> None:
    space = space_of(*SPACE)
    values = open_study(tmp_path, space).ask().values
    journal = tmp_path / "optuna.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-2]))  # the last one is the record, before it is the last value
    study = open_study(tmp_path, space)
    assert study.trials() == []
    assert study.ask().values == values


def test_an_entry_that_was_not_written_completely_is_dropped(tmp_path: Path) -> None:
    space = space_of("seed=1,2")
    trial = open_study(tmp_path, space, Grid(LocalLauncher())).ask()
    with (tmp_path / "optuna.log").open("a") as file:
        file.write('{"op_code": 8, "worker')
    for _ in range(2):
        study = open_study(tmp_path, space, Grid(LocalLauncher()))
        study.save(replace(trial, seconds=1.0))
    assert [stored.number for stored in study.trials()] == [0]


def test_a_grid_has_every_combination_in_order_as_it_was_typed(tmp_path: Path) -> None:
    uneven = "recipe.min_lr_ratio=range(0,1.1,0.3333333333333333)"
    space = space_of(
        "recipe.optimizer.lr=1e-3,0.01", "backbone=resnet18,timm", "recipe.warmup=range(0,0.35,0.1)", uneven
    )
    study = open_study(tmp_path, space, Grid(LocalLauncher()))
    assert [study.ask().values for _ in range(space.count())] == list(space.grid())


def test_a_trial_that_ended_is_reported_to_optuna_even_if_the_sweep_died_in_between(tmp_path: Path) -> None:
    space = space_of("seed=1,2")
    study = open_study(tmp_path, space, Grid(LocalLauncher()))
    trial = replace(study.ask(), status="done", code=0, score=0.5)
    study.tell = lambda trial: None  # type: ignore[method-assign]
    study.save(trial)
    reopened = open_study(tmp_path, space, Grid(LocalLauncher()))
    assert reopened.trials() == [trial]
    assert reopened.study.best_value == 0.5


LR = "recipe.optimizer.lr"
AXES = ("seed=1,2", f"{LR}=interval(0,1)")


def journal_of(folder: Path, params: dict[str, Any] | None = None, choices: Any = None, **change: Any) -> Path:
    """Returns the folder of a sweep over AXES with one stopped trial, after a change of what is stored."""
    study = open_study(folder, space_of(*AXES))
    study.save(replace(study.ask(), status="stopped", code=143))
    path = folder / "optuna.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "user_attr" in line:
            line["user_attr"]["trial"] |= change
        if params and line.get("param_name") in params:
            line["param_value_internal"] = params[line["param_name"]]
        if choices and line.get("param_name") == "seed":
            distribution = {"name": "CategoricalDistribution", "attributes": {"choices": choices}}
            line |= {"distribution": json.dumps(distribution), "param_value_internal": 0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"job": "1; mkdir x"},
        {"job": "--me"},
        {"job": 3},
        {"status": "odd"},
        {"choices": ["1 hydra.callbacks.x=y"]},
        {"choices": [3]},
        {"params": {"seed": 7}},
        {"params": {LR: "1 hydra.callbacks.x=y"}},
        {"number": "../../home"},
    ],
    ids=str,
)
def test_what_no_sweep_writes_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Values become words of a command, a job's number a word of another."""
    with refused("sweep.unreadable"):
        open_study(journal_of(tmp_path / "s", **change), space_of(*AXES))


def test_an_unchanged_journal_is_read(tmp_path: Path) -> None:
    (trial,) = open_study(journal_of(tmp_path / "s"), space_of(*AXES)).trials()
    assert (trial.number, trial.status, sorted(trial.values)) == (0, "stopped", [LR, "seed"])


@pytest.mark.parametrize("axes", [AXES[:1], (*AXES, "backbone=resnet18,timm"), (AXES[0], f"{LR}=interval(0,2)")])
def test_trials_of_another_space_are_refused(tmp_path: Path, axes: tuple[str, ...]) -> None:
    with refused("sweep.unreadable"):
        open_study(journal_of(tmp_path / "s"), space_of(*axes))


def test_a_pickle_in_place_of_the_journal_is_not_opened(tmp_path: Path) -> None:
    for name in ("optuna.log", "optuna.log.snapshot"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(tmp_path / "mark")) + b"\n")
    with refused("sweep.unreadable"):
        open_study(tmp_path, space_of("seed=1,2"))
    assert not (tmp_path / "mark").exists()
