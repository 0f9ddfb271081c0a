"""The first signal stops a run at the end of a step, the second at once; under SLURM the job is requeued."""

import os
import signal
from pathlib import Path

import pytest
from small_runs import Kill, train_small

from resmet.callbacks import signals
from resmet.callbacks.signals import SignalListener, Stopped, requeue


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulates a SLURM job; returns the file in which its scontrol records its arguments."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    return tmp_path / "requeued"


def test_the_second_signal_exits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    forwarded: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    listener = SignalListener(forwarded.append)
    before = signal.getsignal(signal.SIGTERM)
    listener.start()
    signal.raise_signal(signal.SIGTERM)
    assert (listener.received, exits, forwarded) == (signal.SIGTERM, [], [signal.SIGTERM])
    signal.raise_signal(signal.SIGTERM)
    assert (exits, forwarded) == ([143], [signal.SIGTERM, signal.SIGKILL])
    listener.stop()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_repeated_signal_is_ignored_by_ranks_other_than_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal sends it, and rank 0 forwards it."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(signals, "is_rank_zero", lambda: False)
    listener = SignalListener()
    for _ in range(2):
        listener.handle(signal.SIGINT, None)
    assert (listener.received, exits) == (signal.SIGINT, [])


def test_data_loader_workers_ignore_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = SignalListener()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    listener.handle(signal.SIGINT, None)
    assert not listener.received


def test_a_run_restores_the_signal_handlers(tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    train_small("classification", tmp_path / "run", max_epochs=1)
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_job_whose_time_is_up_saves_and_is_requeued(cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        train_small("classification", tmp_path / "run", [Kill(step=3, signum=signal.SIGUSR1)])
    assert caught.value.code == 143
    assert cluster.read_text() == "requeue 42\n"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_job_of_an_array_is_requeued_by_its_own_id(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue()
    assert cluster.read_text() == "requeue 7_3\n"


def test_an_invalid_job_id_is_not_passed_to_scontrol(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42; touch mark")
    requeue()
    assert not cluster.exists()


def test_other_signals_do_not_requeue() -> None:
    assert not Stopped(signal.SIGTERM).requeue
    assert Stopped(signal.SIGINT).exit_code == 130
