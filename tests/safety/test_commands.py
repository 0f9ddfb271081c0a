"""Untrusted folders of configs and sweeps: they choose values, and start no program."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException
from pickles import Payload
from refusals import refused

from foundation.structures import InputError
from resmet.cli.config_dir import check_config_dir
from resmet.cli.validate import check_node
from resmet.sweeps.command import with_saved
from resmet.sweeps.launchers import SlurmLauncher
from resmet.sweeps.sweep_dir import read_sweep_config, refuse_programs

PROGRAM = "{_target_: resmet.sweeps.launchers.run_trial, command: [mkdir, MARK], logs: HOME, number: 0}"
EVIL = {
    "callbacks": f"# @package _global_\nhydra: {{callbacks: {{x: {PROGRAM}}}}}",
    "package": f"# @package hydra.callbacks.x\n{PROGRAM}",
    "launcher": "# @package hydra.launcher\n_target_: resmet.sweeps.launchers.run_trial",
    "sweeper": "# @package hydra.sweeper\n_target_: resmet.sweeps.launchers.run_trial",
    "handler": "# @package hydra.job_logging\nversion: 1\nhandlers: {x: {class: subprocess.Popen, args: [mkdir, MARK]}}",
    "environment": "# @package _global_\nhydra: {job: {env_set: {LD_PRELOAD: x.so}}}",
    "choice": "# @package _global_\ndefaults: [/data@hydra.callbacks.x: folder]",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for ``--config-dir`` with harmful experiments and a valid one."""
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
def test_a_config_folder_cannot_change_hydra(name: str, way: str, home: Path) -> None:
    with refused("config.hydra_section"):
        check_config_dir([way.format(home), f"experiment={name}"], "train")


def test_the_command_refuses_a_harmful_experiment(home: Path, run: Any) -> None:
    done = run("train", "--config-dir", str(home), "experiment=callbacks", "seed=-1")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "[config.hydra_section]" in done.stderr
    assert not (home.parent / "mark").exists()


def test_a_valid_experiment_is_accepted(home: Path) -> None:
    check_config_dir(["--config-dir", str(home), "experiment=good", "hydra.job.chdir=false"], "train")
    with pytest.raises(HydraException):
        check_config_dir([f"-cd={home}", "experiment=nowhere"], "train")


@pytest.mark.parametrize("option", ["--config-path", "-cp", "--config-name=x", "-cn", "--experimental-rerun"])
def test_the_main_config_cannot_be_replaced(option: str) -> None:
    """The last of them unpickles a file."""
    with refused("config.foreign_config"):
        check_config_dir([option, "x"], "train")


def test_a_config_cannot_choose_the_folder_of_a_logger() -> None:
    for name in ("tensorboard", "wandb", "mlflow"):
        with refused("config.unknown_key"):
            check_node({"_target_": f"resmet.engine.loggers.{name}", "run_dir": "/elsewhere"}, "logger")


def write_sweep(folder: Path, **change: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"script": "train.py", "search": "grid", "flags": [], "words": ["seed=1,2"], "chosen": []} | change
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return folder


WORDS = {
    "shell lines": {"chosen": ["sweep/launcher=slurm", "sweep.launcher.setup=[mkdir x]"]},
    "as a mapping": {"chosen": ["sweep.launcher={setup: [mkdir x]}"]},
    "a callback": {"words": ["+hydra.callbacks.x._target_=resmet.sweeps.launchers.run_trial"]},
    "a launcher": {"words": ["hydra/launcher=x"]},
    "a target": {"words": ["+data.x={_target_: os.mkdir}"]},
    "the environment": {"words": ["data.root=${oc.env:HOME}"]},
    "a flag": {"flags": ["hydra.searchpath=[x]"]},
}


@pytest.mark.parametrize("change", WORDS.values(), ids=WORDS)
def test_the_arguments_of_a_saved_sweep_start_no_program(change: dict[str, Any], tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", **change)
    with refused("sweep.program_in_folder"):
        with_saved([f"resume={folder}"])
    repeated = ["-m", "seed=1,2", f"resume={folder}"]
    assert with_saved(repeated) == repeated


@pytest.mark.parametrize(
    "text", ["", "[]", "words: x", "words: [[1]]", "x: !!python/object/apply:os.mkdir [x]", "a: &a *a"]
)
def test_the_config_of_a_sweep_is_plain_values(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(InputError) as error:  # by the reader of YAML, or for its content
        read_sweep_config(tmp_path)
    assert "sweep.yaml" in str(error.value)


def test_a_valid_sweep_resumes(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    refuse_programs(read_sweep_config(folder), folder)
    assert with_saved([f"resume={folder}"]) == ["seed=1,2", f"resume={folder}"]


@pytest.mark.parametrize("option", [{"partition": "gpu\nmkdir x"}, {"account": "a b"}, {"a\nmkdir x": "y"}])
def test_options_of_sbatch_are_single_words(option: dict[str, str]) -> None:
    with refused("sweep.invalid_sbatch"):
        SlurmLauncher(option, cluster="local")


def test_jobs_of_a_saved_sweep_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit pickles what it submits and what comes back; of an old job only its state is queried, and its exit code read."""
    logs = tmp_path / "logs"
    (logs / "submitit").mkdir(parents=True)
    for name in ("7_submitted.pkl", "7_0_result.pkl", "7_result.pkl"):
        (logs / "submitit" / name).write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    monkeypatch.setattr("shutil.which", lambda name: "/bin/false")
    handle = SlurmLauncher().find("7", logs, 0)
    assert handle is not None
    (logs / "0.exit").write_text("0")
    assert handle.poll() == 0
    assert not (tmp_path / "mark").exists()
