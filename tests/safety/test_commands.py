"""A folder of configs, or of a sweep, from a stranger: it chooses values, and starts no program."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException
from refusals import refused

from foundation.structures import InputError
from resmet.cli.config_dir import check_config_dir
from resmet.cli.validate import check_node
from resmet.sweeps.command import again
from resmet.sweeps.sweep_dir import read_said, refuse_programs
from resmet.sweeps.trial import read_trials

PROGRAM = "{_target_: resmet.sweeps.slurm_job.attempt, line: [mkdir, MARK], logs: HOME, number: 0}"
EVIL = {
    "callbacks": f"# @package _global_\nhydra: {{callbacks: {{x: {PROGRAM}}}}}",
    "package": f"# @package hydra.callbacks.x\n{PROGRAM}",
    "launcher": "# @package hydra.launcher\n_target_: resmet.sweeps.slurm_job.attempt",
    "sweeper": "# @package hydra.sweeper\n_target_: resmet.sweeps.slurm_job.attempt",
    "handler": "# @package hydra.job_logging\nversion: 1\nhandlers: {x: {class: subprocess.Popen, args: [mkdir, MARK]}}",
    "environment": "# @package _global_\nhydra: {job: {env_set: {LD_PRELOAD: x.so}}}",
    "choice": "# @package _global_\ndefaults: [/data@hydra.callbacks.x: folder]",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for ``--config-dir`` with an experiment each, and one that is right."""
    for group, name, text in [("experiment", *entry) for entry in EVIL.items()] + [
        ("data", "folder", PROGRAM),
        ("experiment", "good", "# @package _global_\nseed: 7"),
    ]:
        path = tmp_path / "theirs" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("MARK", str(tmp_path / "mark")).replace("HOME", str(tmp_path)) + "\n")
    return tmp_path / "theirs"


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("way", ["--config-dir={}", "hydra.searchpath=[file://{}]"])
def test_a_folder_of_configs_says_nothing_of_hydra(name: str, way: str, home: Path) -> None:
    with refused("config.hydra_section"):
        check_config_dir([way.format(home), f"experiment={name}"], "train")


def test_the_whole_command(home: Path, run: Any) -> None:
    done = run("train", "--config-dir", str(home), "experiment=callbacks", "seed=-1")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "[config.hydra_section]" in done.stderr
    assert not (home.parent / "mark").exists()


def test_what_is_right_is_let_through(home: Path) -> None:
    check_config_dir(["--config-dir", str(home), "experiment=good", "hydra.job.chdir=false"], "train")
    with pytest.raises(HydraException, match="nowhere"):
        check_config_dir([f"-cd={home}", "experiment=nowhere"], "train")


@pytest.mark.parametrize("option", ["--config-path", "-cp", "--config-name=x", "-cn", "--experimental-rerun"])
def test_no_other_config_in_place_of_ours(option: str) -> None:
    """The last of them unpickles a file."""
    with refused("config.foreign_config"):
        check_config_dir([option, "x"], "train")


def test_where_a_logger_writes_is_not_a_config_s_to_say() -> None:
    for name in ("tensorboard", "wandb", "mlflow"):
        with refused("config.unknown_key"):
            check_node({"_target_": f"resmet.engine.loggers.{name}", "run_dir": "/elsewhere"}, "logger")


def write_sweep(folder: Path, **change: Any) -> Path:
    folder.mkdir(exist_ok=True)
    said = {"script": "train.py", "search": "grid", "flags": [], "words": ["seed=1,2"], "chosen": []} | change
    (folder / "sweep.yaml").write_text(yaml.safe_dump(said))
    return folder


WORDS = {
    "shell lines": {"chosen": ["sweep/launcher=slurm", "sweep.launcher.setup=[mkdir x]"]},
    "as a mapping": {"chosen": ["sweep.launcher={setup: [mkdir x]}"]},
    "a callback": {"words": ["+hydra.callbacks.x._target_=resmet.sweeps.slurm_job.attempt"]},
    "a launcher": {"words": ["hydra/launcher=x"]},
    "a target": {"words": ["+data.x={_target_: os.mkdir}"]},
    "the environment": {"words": ["data.root=${oc.env:HOME}"]},
    "a flag": {"flags": ["hydra.searchpath=[x]"]},
}


@pytest.mark.parametrize("change", WORDS.values(), ids=WORDS)
def test_words_of_a_sweep_s_folder_start_no_program(change: dict[str, Any], tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", **change)
    with pytest.raises(InputError, match="which could run a program: where that is wanted, say all its words again"):
        again([f"resume={folder}"])
    said_again = ["-m", "seed=1,2", f"resume={folder}"]
    assert again(said_again) == said_again


@pytest.mark.parametrize(
    "text", ["", "[]", "words: x", "words: [[1]]", "x: !!python/object/apply:os.mkdir [x]", "a: &a *a"]
)
def test_a_sweep_s_words_are_plain(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(InputError, match="sweep.yaml can't be read"):
        read_said(tmp_path)


def test_a_sweep_of_ours_goes_on(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    refuse_programs(read_said(folder), folder)
    assert again([f"resume={folder}"]) == ["seed=1,2", f"resume={folder}"]


ROW = {"number": 0, "values": {"seed": "1"}, "state": "stopped"}
ROWS = {
    "a folder that would be removed": {"number": "../../home"},
    "another folder": {"number": 1},
    "no number": {"number": True},
    "an option": {"values": {"--config-dir": "x"}},
    "another key": {"values": {"seed": "1", "hydra.callbacks.x": "y"}},
    "no text": {"values": {"seed": ["1"]}},
    "no mapping": {"values": 3},
    "a job": {"job": "1; mkdir x"},
    "a job as an option": {"job": "--me"},
    "a state": {"state": "odd"},
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_a_sweep_s_trials_are_what_a_sweep_writes(change: dict[str, Any], tmp_path: Path) -> None:
    """The folder of a trial that died early is removed, by its number."""
    (tmp_path / "sweep.json").write_text(json.dumps({"trials": [ROW]}))
    assert read_trials(tmp_path, {"seed"})[0].number == 0
    (tmp_path / "sweep.json").write_text(json.dumps({"trials": [ROW | change]}))
    with pytest.raises(InputError, match="sweep.json can't be read"):
        read_trials(tmp_path, {"seed"})


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint"])
def test_no_word_for_sbatch_is_two_lines(key: str) -> None:
    from resmet.sweeps.launchers import Slurm

    with pytest.raises(InputError, match=f"sweep.launcher.{key}=.* is no word that sbatch takes"):
        Slurm(**{key: "gpu\nmkdir x", "cluster": "local"})


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_jobs_of_a_sweep_s_folder_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit pickles what it submits and what comes back; of an old job only its state is asked, and its exit code read."""
    from resmet.sweeps.launchers import Slurm

    logs = tmp_path / "logs"
    (logs / "submitit").mkdir(parents=True)
    for name in ("7_submitted.pkl", "7_0_result.pkl", "7_result.pkl"):
        (logs / "submitit" / name).write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    monkeypatch.setattr("shutil.which", lambda name: "/bin/false")
    handle = Slurm().find("7", logs, 0)
    assert handle is not None
    (logs / "0.exit").write_text("0")
    assert handle.poll() == 0
    assert not (tmp_path / "mark").exists()


def test_a_study_s_journal_is_json(tmp_path: Path) -> None:
    from resmet.sweeps.launchers import Local
    from resmet.sweeps.search import Optuna
    from resmet.sweeps.search_space import Space

    (tmp_path / "optuna.log").write_bytes(pickle.dumps(Payload(tmp_path / "mark")) + b"\n")
    (tmp_path / "optuna.log.snapshot").write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    with pytest.raises(Exception, match="."):
        Optuna(Local()).begin(Space({}, ()), tmp_path, 0, 1, [])
    assert not (tmp_path / "mark").exists()
