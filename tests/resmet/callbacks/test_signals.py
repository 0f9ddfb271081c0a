"""Signals are heard, obeyed at the end of a step, and once more at once; under SLURM the job is queued again."""

import os
import signal
from pathlib import Path

import pytest
from small_runs import Kill, train_small

from resmet.callbacks import signals
from resmet.callbacks.signals import SignalListener, Stopped, requeue


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job, and an scontrol that writes down what it is told."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    return tmp_path / "told"


def test_the_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    forwarded: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    listener = SignalListener(forwarded.append)
    before = signal.getsignal(signal.SIGTERM)
    listener.start()
    signal.raise_signal(signal.SIGTERM)
    assert (listener.received, left, forwarded) == (signal.SIGTERM, [], [signal.SIGTERM])
    signal.raise_signal(signal.SIGTERM)
    assert (left, forwarded) == ([143], [signal.SIGTERM, signal.SIGKILL])
    listener.stop()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_comes_twice_to_a_process_of_several_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the terminal, and from the process that started it."""
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(signals, "is_rank_zero", lambda: False)
    listener = SignalListener(lambda signum: None)
    for _ in range(2):
        listener.handle(signal.SIGINT, None)
    assert (listener.received, left) == (signal.SIGINT, [])


def test_processes_that_load_data_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = SignalListener(lambda signum: None)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    listener.handle(signal.SIGINT, None)
    assert not listener.received


def test_a_run_leaves_the_signals_as_they_were(tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    train_small("classification", tmp_path / "run", max_epochs=1)
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_job_whose_time_is_up_saves_and_is_queued_again(cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        train_small("classification", tmp_path / "run", [Kill(step=3, signum=signal.SIGUSR1)])
    assert left.value.code == 143
    assert cluster.read_text() == "requeue 42\n"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_job_of_an_array_goes_by_its_own_number(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue()
    assert cluster.read_text() == "requeue 7_3\n"


def test_what_is_no_job_number_is_not_handed_on(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42; touch mark")
    requeue()
    assert not cluster.exists()


def test_other_signals_do_not_queue_again() -> None:
    assert not Stopped(signal.SIGTERM).requeue
    assert Stopped(signal.SIGINT).exit_code == 130
