"""Signals that stop a run: recorded at once and handled at the end of a step, so that nothing is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from foundation.parallel.rank_zero import is_rank_zero, started_externally

INTERRUPTED, TERMINATED = 130, 143

log = logging.getLogger("resmet")


class Stopped(BaseException):
    """Ends a run that received a signal, after its checkpoint was written.

    Args:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = INTERRUPTED if signum == signal.SIGINT else TERMINATED
        self.requeue = signum == signal.SIGUSR1


class SignalListener:
    """Handles SIGTERM and SIGINT, and SIGUSR1 under SLURM, which sends it before a job's time is up.

    The first is recorded for the end of the step; a second one ends the process at once, unless torchrun or SLURM started it, which
    forward what the process has received itself.

    Args:
        forward: Sends a signal to the processes that this one started.

    Attributes:
        received: The first signal; 0 before any.
    """

    def __init__(self, forward: Callable[[int], None] = lambda signum: None) -> None:
        self.forward = forward
        self.pid = os.getpid()
        self.received = 0
        self.previous: dict[int, Any] = {}

    def start(self) -> None:
        """Installs the handlers; only the main thread can."""
        if self.previous or threading.current_thread() is not threading.main_thread():
            return
        handled = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]
        self.previous = {signum: signal.signal(signum, self.handle) for signum in handled}

    def stop(self) -> None:
        """Restores the previous handlers, unless Lightning has done so: at the end of a run it comes first."""
        for signum, handler in self.previous.items():
            if signal.getsignal(signum) == self.handle:
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self.previous = {}

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:
            return  # a DataLoader worker, which is needed until the end of the step
        if self.received and signum != signal.SIGUSR1 and not self.may_be_forwarded():
            self.forward(signal.SIGKILL)
            os._exit(INTERRUPTED if signum == signal.SIGINT else TERMINATED)
        if not self.received:
            self.received = signum
            self.forward(signum)
            name = signal.Signals(signum).name
            with contextlib.suppress(RuntimeError):  # the stream may be in the middle of a line
                log.info(f"{name}: finishing the step and saving; a second signal ends the run at once")

    def may_be_forwarded(self) -> bool:
        """Whether a second signal may be the first one again: a terminal sends it to all processes, and their launcher forwards it."""
        return started_externally() or not is_rank_zero()


def requeue() -> None:
    """Asks SLURM to start this job again. The job script sets ``resume=auto``."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")
    if not job.replace("_", "").isdigit():
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
        log.info(f"job {job} is queued again")
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(f"job {job} could not be queued again ({error}): submit it by hand, with resume=auto it resumes")
