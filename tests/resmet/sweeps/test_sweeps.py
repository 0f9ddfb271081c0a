"""Sweeps, with runs of milliseconds in the place of training."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from PIL import Image

from foundation.structures import InputError
from resmet.cli.messages import message_of
from resmet.sweeps.command import sweep as sweep_of
from resmet.sweeps.launchers import Job, Local
from resmet.sweeps.scheduler import quoted
from resmet.sweeps.search import Optuna
from resmet.sweeps.search_space import Space, read_space
from resmet.sweeps.slurm_job import attempt
from resmet.sweeps.trial import DONE, STOPPED, Trial

ROOT = Path(__file__).parents[3]
FAKE_TRAIN = str(ROOT / "tests" / "support" / "fake_train.py")
Sweep = Callable[..., subprocess.CompletedProcess]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """``fake_train.py`` with the given words, in a folder of its own."""

    def call(*words: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, FAKE_TRAIN, *words],
            cwd=tmp_path,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def space_of(*words: str) -> Space:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return read_space(OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(words)))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def starts(folder: Path) -> list[int]:
    """How often each trial was started."""
    folders = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return [len((path / "starts.txt").read_text().splitlines()) for path in folders]


def test_the_grid_is_that_of_hydra(tmp_path: Path) -> None:
    words = (
        "backbone=glob(resnet3*)",
        "trainer=cpu",
        "seed=range(1,4,2)",
        "recipe.optimizer.lr=1e-3,0.01",
        "+data.name='a b','c,d'",
        "data.size=choice(32)",
    )
    program = tmp_path / "app.py"
    program.write_text(
        "import json\nimport hydra\nfrom hydra.core.hydra_config import HydraConfig\n"
        f"@hydra.main(version_base='1.3', config_path={str(ROOT / 'conf')!r}, config_name='train')\n"
        "def main(cfg): print('job', json.dumps(list(HydraConfig.get().overrides.task)))\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, program, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    theirs = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("job ")]
    space = space_of(*words)
    assert len(theirs) == space.count() == 16
    assert [space.line(values) for values in space.grid()] == theirs


def test_every_trial_is_its_own_process_and_a_broken_one_stops_no_other(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("-m", "recipe.optimizer.lr=1e-3,0.01", "seed=1,666", "trainer.max_epochs=2", "run_dir=s")
    folder = tmp_path / "s"
    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1", "2", "3", "logs"]
    assert starts(folder) == [1] * 4
    assert "run_dir=s/3" in (folder / "3" / "starts.txt").read_text()
    table = rows(folder)
    assert [row["state"] for row in table] == ["done", "failed"] * 2
    assert [row["code"] for row in table] == ["0", "1"] * 2
    assert table[1]["said"] == "RuntimeError: the card fell out"
    assert (table[2]["recipe.optimizer.lr"], table[2]["seed"], table[2]["epochs"]) == ("0.01", "1", "2")
    best = json.loads((folder / "sweep.json").read_text())["best"]
    assert (best["number"], best["score"], best["test"], best["folder"]) == (2, 0.9, 0.89, "s/2")
    assert "best: trial 2, score 0.9000: recipe.optimizer.lr=0.01 seed=1 -> s/2" in done.stdout
    assert "trial 1 failed (exit code 1): RuntimeError: the card fell out" in done.stdout
    with Image.open(folder / "sweep.png") as picture:
        assert picture.width > 1000


def test_refused_trials_make_it_2(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("-m", "seed=1,667", "trainer.max_epochs=1", "run_dir=s")
    assert done.returncode == 2
    assert [row["state"] for row in rows(tmp_path / "s")] == ["done", "refused"]
    assert "trial 1 refused (exit code 2): train.py: data.root=nowhere: there is no such folder" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "recipe.optimizr.lr=1,2"], "no key recipe.optimizr.lr. Nearest: recipe.optimizer.lr"),
        (["-m", "backbone=resnet18,resnet81"], "backbone=resnet81: there is no such choice. Nearest: resnet18"),
        (["-m", "trainer.max_epochs=1,abc"], "trial trainer.max_epochs=abc: trainer.max_epochs='abc' must be a whole"),
        (["-m", "recipe.optimizer.lr=interval(1,2)"], "say sweep=optuna, or name the values"),
        (["-m", "recipe.optimizer.lr=interval(2,1)"], "from the lesser to the greater"),
        (["-m", "recipe.optimizer.lr=tag(log,interval(0,1))", "sweep=optuna"], "starts above 0"),
        (["-m", "backbone=glob(x*)"], "nothing to choose from"),
        (["-m", "sweep=optun"], "Nearest: optuna. Allowed: grid, optuna"),
        (["-m", "sweep.job=2"], "no key sweep.job. Nearest: sweep.jobs"),
        (["-m", "sweep.jobs=0"], "sweep.jobs must be at least 1, got 0"),
        (["-m", "sweep.trials=3"], "choose sweep=optuna"),
        (["-m", "sweep=optuna"], "nothing to search"),
        (["-m", "sweep=optuna", "seed=1,2", "sweep.pruner=x"], "one of 'median', 'hyperband', 'none'"),
        (["-m", "sweep._target_=os.system"], "may not build os.system"),
        (["-m", "seed=1,2", "resume=nowhere"], "resume=nowhere is no folder of a sweep"),
        (["sweep=optuna", "seed=1"], "say -m too"),
    ],
)
def test_what_can_not_be_swept_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, HydraException)) as refusal:
        sweep_of([FAKE_TRAIN, *words])
    assert said in message_of(refusal.value, "train")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("package", "said"), [("optuna", "'.[optuna]'"), ("submitit", "'.[slurm]'")])
def test_a_package_that_is_not_there_is_named(package: str, said: str) -> None:
    words = ["-m", "seed=1,2", "sweep=optuna" if package == "optuna" else "sweep.launcher=slurm"]
    hidden = f"import sys, runpy; sys.modules[{package!r}] = None; sys.argv = {['train.py', *words]}; "
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}runpy.run_path({FAKE_TRAIN!r}, run_name='__main__')"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert f"needs its package (import of {package} halted" in done.stderr
    assert said in done.stderr


def test_slurm_needs_sbatch(sweep: Sweep) -> None:
    done = sweep("-m", "seed=1,2", "sweep.launcher=slurm", PATH="/nowhere")
    assert done.returncode == 2
    assert "finds no sbatch here: sweep from a login node" in done.stderr


def test_a_sweep_ends_on_a_signal_and_goes_on(sweep: Sweep, tmp_path: Path) -> None:
    """Of three trials, one at a time, the second is cut short: it goes on, the first is left alone, the third follows."""
    words = ("-m", "seed=1,2,3", "trainer.max_epochs=5", "run_dir=s")
    folder = tmp_path / "s"
    running = [sys.executable, FAKE_TRAIN, *words]
    (tmp_path / "1").touch()  # the others wait after their first epoch
    with subprocess.Popen(
        running, cwd=tmp_path, env=environment(FAKE_HOLD_DIR=str(tmp_path)), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: (folder / "1" / "checkpoints" / "last.ckpt").is_file())
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 143, said
    assert "go on with resume=s" in said
    assert [row["state"] for row in rows(folder)] == ["done", "stopped"]
    assert rows(folder)[1]["code"] == "143"

    again = sweep(*words)
    assert again.returncode == 2
    assert "already holds this sweep: go on with it by resume=s" in again.stderr
    other = sweep("-m", "seed=1,2", "trainer.max_epochs=5", "run_dir=s", "resume=auto")
    assert other.returncode == 2
    assert "holds another sweep: words was seed=1,2,3 trainer.max_epochs=5, is seed=1,2" in other.stderr

    done = sweep("resume=s", "sweep.jobs=2")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows(folder)] == ["done"] * 3
    assert starts(folder) == [1, 2, 1]
    assert (folder / "1" / "starts.txt").read_text().splitlines()[1] == "resume=s/1"
    assert (folder / "1" / "metrics.csv").read_text() == (folder / "0" / "metrics.csv").read_text()

    finished = sweep(*words, "resume=auto")
    assert finished.returncode == 0
    assert starts(folder) == [1, 2, 1]


def test_a_sweep_that_was_killed_outright_goes_on(sweep: Sweep, tmp_path: Path) -> None:
    """It leaves a trial behind, which keeps the folder to itself until it ends."""
    words = ("-m", "seed=1,2", "trainer.max_epochs=4", "resume=auto")
    running = [sys.executable, FAKE_TRAIN, *words]
    with subprocess.Popen(running, cwd=tmp_path, env=environment(FAKE_HOLD_DIR=str(tmp_path))) as process:
        wait_for(lambda: any(tmp_path.glob("outputs/sweeps/*/0/metrics.csv")))
        process.kill()
    folder = next(tmp_path.glob("outputs/sweeps/*"))
    early = sweep(*words)
    assert early.returncode == 2
    assert "is in use" in early.stderr
    (tmp_path / "1").touch()
    wait_for(lambda: (folder / "0" / "metrics.json").is_file())
    wait_for(lambda: "is in use" not in (late := sweep(*words)).stderr and late.returncode == 0)
    assert [row["state"] for row in rows(folder)] == ["done"] * 2
    assert rows(folder)[0]["seconds"] == "7.5"  # by its own word: no sweep saw its end
    assert starts(folder) == [1, 1]
    assert len(list(tmp_path.glob("outputs/sweeps/*"))) == 1


def test_a_hopeless_trial_is_ended(sweep: Sweep, tmp_path: Path) -> None:
    """After two trials, one at a bad rate is below the median at its second epoch, and is not trained to its eighth."""
    words = ("recipe.optimizer.lr=0.01,1000", "sweep=optuna", "sweep.startup=2", "sweep.trials=4", "seed=1")
    done = sweep("-m", *words, "trainer.max_epochs=8", "run_dir=s", FAKE_EPOCH_SECONDS="0.25")
    assert done.returncode == 0, done.stderr
    pruned = [row for row in rows(tmp_path / "s") if row["state"] == "pruned"]
    assert pruned, done.stderr
    for row in pruned:
        assert row["recipe.optimizer.lr"] == "1000"
        assert row["code"] == "143"
        assert 2 <= int(row["epochs"]) < 8
    assert "ended as hopeless" in done.stderr


def play(search: Optuna, space: Space, folder: Path, old: Sequence[Trial], until: int) -> list[Trial]:
    """Trials as a sweep would have them, without running anything: the score is best at a rate of 0.01."""
    search.begin(space, folder, 7, 4, old)
    trials = list(old)
    for number in range(len(old), until):
        trial = Trial(number, search.propose(number), DONE)
        trial.score = -abs(float(trial.values["recipe.optimizer.lr"]) - 0.01) - len(trial.values["backbone"])
        search.tell(trial)
        trials.append(trial)
    return trials


def test_optuna_draws_by_seed_and_a_sweep_that_goes_on_draws_the_same(tmp_path: Path) -> None:
    space = space_of(
        "recipe.optimizer.lr=tag(log,interval(1e-5,1))",
        "backbone=resnet18,timm",
        "data.size=range(32,65,16)",
        "trainer.max_epochs=int(interval(1,5))",
    )
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = play(Optuna(Local(), startup=3), space, tmp_path / "a", [], 9)
    half = play(Optuna(Local(), startup=3), space, tmp_path / "b", [], 5)
    both = play(Optuna(Local(), startup=3), space, tmp_path / "b", half, 9)
    assert [trial.values for trial in both] == [trial.values for trial in whole]
    assert len({trial.words for trial in whole}) == 9
    for trial in whole:
        assert trial.values["backbone"] in ("resnet18", "timm")
        assert trial.values["data.size"] in ("32", "48", "64")
        assert int(trial.values["trainer.max_epochs"]) in range(1, 6)
        assert 1e-5 <= float(trial.values["recipe.optimizer.lr"]) <= 1


def test_a_trial_that_was_drawn_but_not_noted_is_taken_up(tmp_path: Path) -> None:
    space = space_of("recipe.optimizer.lr=interval(0,1)", "backbone=resnet18,timm")
    first = Optuna(Local())
    first.begin(space, tmp_path, 0, 4, [])
    drawn = first.propose(0)
    second = Optuna(Local(), pruner="hyperband")
    second.begin(space, tmp_path, 0, 4, [Trial(0, drawn, STOPPED)])
    assert second.propose(0) == drawn
    assert second.propose(1) != drawn
    assert not second.hopeless(0, 1, 0.5)


def test_jobs_of_a_queue(sweep: Sweep, tmp_path: Path) -> None:
    """Submitit's own stand-in for a queue; folders, exit codes and last words are as without one."""
    queue = ("sweep.launcher=slurm", "sweep.launcher.cluster=local", "sweep.jobs=2")
    done = sweep("-m", "seed=1,668", "trainer.max_epochs=1", *queue, "run_dir=s")
    assert done.returncode == 1, done.stderr
    table = rows(tmp_path / "s")
    assert [(row["state"], row["code"]) for row in table] == [("done", "0"), ("failed", "-9")]
    assert starts(tmp_path / "s") == [1, 1]


class Queued:
    """What submitit knows of a job."""

    def __init__(self, state: str) -> None:
        self.job_id, self.state, self.cancelled = "17", state, False

    def done(self) -> bool:
        return self.state not in ("PENDING", "RUNNING")

    def cancel(self, check: bool) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("state", "exit_file", "code"),
    [
        ("RUNNING", None, None),
        ("RUNNING", "0", 0),
        ("COMPLETED", "2", 2),
        ("TIMEOUT", None, 143),
        ("OUT_OF_MEMORY", None, 1),
    ],
)
def test_how_a_queued_trial_stands(tmp_path: Path, state: str, exit_file: str | None, code: int | None) -> None:
    if exit_file:
        (tmp_path / "3.exit").write_text(exit_file)
    job = Job(Queued(state), tmp_path, 3)
    assert job.poll() == code
    assert job.said == ("" if exit_file or code is None else f"job 17 ended as {state}, see {tmp_path}/submitit")


def test_a_queued_trial_is_asked_by_a_file(tmp_path: Path) -> None:
    for state, cancelled in (("PENDING", True), ("RUNNING", False)):
        queued = Queued(state)
        Job(queued, tmp_path, 3).stop(signal.SIGTERM)
        assert queued.cancelled is cancelled
    assert attempt([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path), 3) == -signal.SIGTERM
    assert (tmp_path / "3.exit").read_text() == "-15"


def test_cards_are_dealt_out(tmp_path: Path) -> None:
    launcher, show = Local(cards=[3, 5]), [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    with (tmp_path / "lock").open("w") as lock:
        first = launcher.start(show, tmp_path, 0, lock.fileno(), [])
        second = launcher.start(show, tmp_path, 1, lock.fileno(), [first])
        third = launcher.start(show, tmp_path, 2, lock.fileno(), [second])
        wait_for(lambda: all(handle.poll() == 0 for handle in (first, second, third)))
    assert [(tmp_path / f"{i}.out").read_text().strip() for i in range(3)] == ["3", "5", "3"]


@pytest.mark.parametrize("name", ["plain/0", "with space/1", "it's/(2)", "a,b={c}/3", "back\\slash'/4"])
def test_any_path_is_a_word(name: str) -> None:
    override = OverridesParser.create().parse_override(f"run_dir={quoted(Path(name))}")
    assert not override.is_sweep_override()
    assert override.value() == name


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
