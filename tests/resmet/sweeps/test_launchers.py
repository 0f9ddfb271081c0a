"""Where trials run."""

import signal
import sys
from pathlib import Path

import pytest

from resmet.sweeps.launchers import LocalLauncher, QueuedTrial
from resmet.sweeps.slurm_job import run_trial


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
        QueuedTrial(queued, tmp_path, 3).stop(signal.SIGTERM)
        assert queued.canceled is canceled
    assert run_trial([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path), 3) == -signal.SIGTERM
    assert (tmp_path / "3.exit").read_text() == "-15"


def test_each_trial_is_assigned_the_gpu_that_the_fewest_use(tmp_path: Path) -> None:
    launcher = LocalLauncher(gpus=[3, 5])
    command = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    trials: list = []
    with (tmp_path / "lock").open("w") as lock:
        for number, running in enumerate([[], [0], [1]]):
            trials.append(launcher.start(command, tmp_path, number, lock.fileno(), [trials[i] for i in running]))
        assert [trial.process.wait() for trial in trials] == [0, 0, 0]
    assert [(tmp_path / f"{i}.out").read_text().strip() for i in range(3)] == ["3", "5", "3"]
