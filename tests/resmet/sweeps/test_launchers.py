"""Where trials run."""

import os
import signal
import sys
from pathlib import Path

import pytest
from refusals import refused

from resmet.sweeps.launchers import LocalLauncher, QueuedTrial, SlurmLauncher, run_trial


class Queued:
    """What submitit knows of a job."""

    def __init__(self, state: str) -> None:
        self.job_id, self.state, self.canceled = "17", state, False

    def done(self) -> bool:
        return self.state not in ("PENDING", "RUNNING")

    def cancel(self, check: bool) -> None:
        self.canceled = True


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
def test_the_exit_code_of_a_queued_trial(tmp_path: Path, state: str, exit_file: str | None, code: int | None) -> None:
    if exit_file:
        (tmp_path / "3.exit").write_text(exit_file)
    trial = QueuedTrial(Queued(state), tmp_path, 3)
    assert trial.poll() == code
    assert bool(trial.message) is (code is not None and not exit_file)


def test_a_queued_trial_is_stopped_by_a_file(tmp_path: Path) -> None:
    for state, canceled in (("PENDING", True), ("RUNNING", False)):
        queued = Queued(state)
        QueuedTrial(queued, tmp_path, 3).send_signal(signal.SIGTERM)
        assert queued.canceled is canceled
    assert run_trial([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path), 3) == -signal.SIGTERM
    assert (tmp_path / "3.exit").read_text() == "-15"


def test_slurm_needs_its_package_and_sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with refused("sweep.no_sbatch"):
        SlurmLauncher()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with refused("sweep.missing_package"):
        SlurmLauncher()


def test_each_trial_is_assigned_the_gpu_that_the_fewest_use(tmp_path: Path) -> None:
    """The first two run at a time, each until its pipe is opened; the third starts when the first has ended."""
    launcher = LocalLauncher(gpus=[3, 5])
    program = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES']); open(sys.argv[1])"
    trials = []
    with (tmp_path / "lock").open("w") as lock:
        for number, ending in enumerate([[], [0], [1, 2]]):
            os.mkfifo(tmp_path / str(number))
            command = [sys.executable, "-c", program, str(tmp_path / str(number))]
            trials.append(launcher.start(command, tmp_path, number, lock.fileno()))
            for other in ending:
                (tmp_path / str(other)).open("w").close()
                assert trials[other].wait() == 0
    assert [(tmp_path / f"{i}.out").read_text().strip() for i in range(3)] == ["3", "5", "3"]
