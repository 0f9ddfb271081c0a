"""Sweeps from the command line, with a fake training of milliseconds."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from PIL import Image
from preloaded import Preloaded
from sweep_space import CONF, space_of

from foundation.structures import InputError
from resmet.cli.messages import translate
from resmet.sweeps.command import sweep as run_sweep

ROOT = Path(__file__).parents[3]
FAKE_TRAIN = str(ROOT / "tests" / "support" / "fake_train.py")
Sweep = Callable[..., subprocess.CompletedProcess]
slow = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


@pytest.fixture
def sweep(tmp_path: Path, preloaded: Preloaded) -> Sweep:
    """``fake_train.py`` with the given arguments, in a folder of its own."""
    return partial(preloaded.run, tmp_path, "tests/support/fake_train")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> list[str]:
    return [row[name] for row in rows(folder)]


def starts(folder: Path) -> list[int]:
    """Returns how often each trial was started."""
    folders = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return [len((path / "starts.txt").read_text().splitlines()) for path in folders]


def test_the_grid_equals_that_of_hydra() -> None:
    overrides = (
        "backbone=glob(resnet3*)",
        "trainer=cpu",
        "seed=range(1,4,2)",
        "recipe.optimizer.lr=1e-3,0.01",
        "+data.name='a b','c,d'",
        "data.size=choice(32)",
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        (theirs,) = BasicSweeper.split_arguments(parser.parse_overrides(list(overrides)), max_batch_size=None)
    space = space_of(*overrides)
    assert len(theirs) == space.count() == 16
    assert [space.overrides_of(values) for values in space.grid()] == theirs


@slow
def test_every_trial_is_its_own_process_and_a_failed_one_stops_no_other(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("-m", "recipe.optimizer.lr=1e-3,0.01", "seed=1,666", "trainer.max_epochs=2", "run_dir=s")
    folder = tmp_path / "s"
    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1", "2", "3", "logs"]
    assert starts(folder) == [1] * 4
    assert "run_dir=s/3" in (folder / "3" / "starts.txt").read_text()
    assert column(folder, "state") == ["done", "failed"] * 2
    assert column(folder, "code") == ["0", "1"] * 2
    assert column(folder, "score") == ["0.8", "", "0.9", ""]
    failed, best = rows(folder)[1:3]
    assert failed["message"] == "RuntimeError: the GPU is lost"
    assert (best["recipe.optimizer.lr"], best["seed"], best["epochs"], best["test"]) == ("0.01", "1", "2", "0.89")
    assert "-> s/2" in done.stdout
    assert failed["message"] in done.stdout
    with Image.open(folder / "sweep.png") as image:
        assert image.height > 1000


@slow
def test_refused_trials_give_exit_code_2(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("-m", "seed=1,667", "trainer.max_epochs=1", "run_dir=s")
    assert done.returncode == 2
    assert column(tmp_path / "s", "state") == ["done", "refused"]
    assert "data.root=nowhere" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["-m", "recipe.optimizr.lr=1,2"], "config.unknown_key", "Nearest: recipe.optimizer.lr"),
        (["-m", "recipe.clip=1,2", "data.workers=1"], "config.renamed_key", ""),
        (["-m", "backbone=resnet18,resnet81"], "config.unknown_choice", "Nearest: resnet18"),
        (["-m", "trainer.max_epochs=1,abc"], "config.wrong_type", "trial trainer.max_epochs=abc"),
        (["-m", "recipe.optimizer.lr=interval(1,2)"], "sweep.interval_in_grid", "sweep=optuna"),
        (["-m", "recipe.optimizer.lr=interval(2,1)"], "sweep.invalid_interval", ""),
        (["-m", "recipe.optimizer.lr=tag(log,interval(0,1))", "sweep=optuna"], "sweep.invalid_interval", "above 0"),
        (["-m", "backbone=glob(x*)"], "sweep.empty_axis", ""),
        (["-m", "sweep=optun"], "config.unknown_choice", "Nearest: optuna"),
        (["-m", "sweep.job=2"], "config.unknown_key", "Nearest: sweep.jobs"),
        (["-m", "sweep=optuna", "sweep.startup=2", "seed=1,2"], "config.renamed_key", "sweep.startup_trials"),
        (["-m", "sweep.launcher.cards=[0]", "seed=1,2"], "config.renamed_key", "sweep.launcher.gpus"),
        (["-m", "sweep.jobs=0"], "config.out_of_range", "sweep.jobs"),
        (["-m", "sweep.trials=3"], "config.key_of_another_choice", "choose sweep=optuna"),
        (["-m", "sweep=optuna"], "sweep.nothing_to_search", ""),
        (["-m", "sweep=optuna", "seed=1,2", "sweep.pruner=x"], "config.wrong_type", "'hyperband'"),
        (["-m", "sweep._target_=os.system"], "sweep.forbidden_target", "os.system"),
        (["-m", "seed=1,2", "resume=nowhere"], "sweep.not_a_sweep", "resume=nowhere"),
        (["-m", "run_dir=a,b"], "sweep.several_folders", "run_dir=a,b"),
        (["sweep=optuna", "seed=1"], "sweep.needs_multirun", "-m"),
        (["-m", "seed=1,2", "sweep.launcher.gpus=[]"], "sweep.no_gpus", ""),
    ],
)
def test_what_can_not_be_swept_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, HydraException)) as refusal:
        run_sweep([FAKE_TRAIN, *arguments])
    error = translate(refusal.value, "train")
    assert error.code == code
    assert named in str(error)
    assert not list(tmp_path.iterdir())


@slow
def test_a_sweep_ends_on_a_signal_and_resumes(sweep: Sweep, tmp_path: Path) -> None:
    """Of three trials, one at a time, the second is stopped: it is resumed, the first is left alone, the third follows."""
    arguments = ("-m", "seed=1,2,3", "trainer.max_epochs=5", "run_dir=s")
    folder = tmp_path / "s"
    (tmp_path / "1").touch()  # the others wait after their first epoch
    with subprocess.Popen(
        [sys.executable, FAKE_TRAIN, *arguments],
        cwd=tmp_path,
        env=environment(FAKE_HOLD_DIR=str(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: (folder / "1" / "checkpoints" / "last.ckpt").is_file())
        process.send_signal(signal.SIGTERM)
        output = process.stderr.read()
    assert process.returncode == 143, output
    assert "resume=s" in output
    assert column(folder, "state") == ["done", "stopped"]
    assert column(folder, "code") == ["0", "143"]

    again = sweep(*arguments)
    assert again.returncode == 2
    assert "[sweep.exists]" in again.stderr
    other = sweep("-m", "seed=1,2", "trainer.max_epochs=5", "run_dir=s", "resume=auto")
    assert other.returncode == 2
    assert "seed=1,2,3" in other.stderr
    assert "[sweep.other_sweep]" in other.stderr

    done = sweep("resume=s", "sweep.jobs=2")
    assert done.returncode == 0, done.stderr
    assert column(folder, "state") == ["done"] * 3
    assert starts(folder) == [1, 2, 1]
    assert (folder / "1" / "starts.txt").read_text().splitlines()[1] == "resume=s/1"
    assert (folder / "1" / "metrics.csv").read_text() == (folder / "0" / "metrics.csv").read_text()

    finished = sweep(*arguments, "resume=auto")
    assert finished.returncode == 0
    assert starts(folder) == [1, 2, 1]


@slow
def test_a_killed_sweep_resumes(sweep: Sweep, tmp_path: Path) -> None:
    """It leaves a trial behind, which keeps the folder locked until it ends."""
    arguments = ("-m", "seed=1,2", "trainer.max_epochs=4", "resume=auto")
    with subprocess.Popen(
        [sys.executable, FAKE_TRAIN, *arguments], cwd=tmp_path, env=environment(FAKE_HOLD_DIR=str(tmp_path))
    ) as process:
        wait_for(lambda: any(tmp_path.glob("outputs/sweeps/*/0/metrics.csv")))
        process.kill()
    folder = next(tmp_path.glob("outputs/sweeps/*"))
    early = sweep(*arguments)
    assert early.returncode == 2
    assert "[run_dir.locked]" in early.stderr
    (tmp_path / "1").touch()
    wait_for(lambda: (folder / "0" / "metrics.json").is_file())
    wait_for(lambda: "[run_dir.locked]" not in (late := sweep(*arguments)).stderr and late.returncode == 0)
    assert column(folder, "state") == ["done"] * 2
    assert rows(folder)[0]["seconds"] == "7.5"  # from its metrics.json: the sweep did not see its end
    assert starts(folder) == [1, 1]
    assert len(list(tmp_path.glob("outputs/sweeps/*"))) == 1


@slow
def test_a_trial_that_falls_behind_is_pruned(sweep: Sweep, tmp_path: Path) -> None:
    """After two trials, one at a bad rate is below the median at its second epoch; it would not end by itself."""
    arguments = ("recipe.optimizer.lr=0.01,1000", "sweep=optuna", "sweep.startup_trials=2", "sweep.trials=4", "seed=1")
    done = sweep("-m", *arguments, "trainer.max_epochs=8", "run_dir=s", FAKE_ENDLESS_FROM="2")
    assert done.returncode == 0, done.stderr
    pruned = [row for row in rows(tmp_path / "s") if row["state"] == "pruned"]
    assert pruned, done.stderr
    assert {(row["recipe.optimizer.lr"], row["code"], row["epochs"]) for row in pruned} == {("1000", "143", "3")}


@slow
def test_trials_in_a_queue(sweep: Sweep, tmp_path: Path) -> None:
    """Submitit's own substitute for a queue; folders and exit codes are as without one."""
    queue = ("sweep.launcher=slurm", "sweep.launcher.cluster=local", "sweep.jobs=2")
    done = sweep("-m", "seed=1,668", "trainer.max_epochs=1", *queue, "run_dir=s")
    assert done.returncode == 1, done.stderr
    assert [(row["state"], row["code"]) for row in rows(tmp_path / "s")] == [("done", "0"), ("failed", "-9")]
    assert starts(tmp_path / "s") == [1, 1]


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
