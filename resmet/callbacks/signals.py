"""Signals that ask a run to stop: heard at once, obeyed at the end of a step, so that nothing is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from foundation.parallel.rank_zero import is_rank_zero, started_externally

INTERRUPTED, TERMINATED = 130, 143

ECHO = 3.0
"""Seconds within which torchrun or SLURM hand on what a process has heard itself."""

log = logging.getLogger("resmet")


class Stopped(BaseException):
    """A run that a signal ended, its checkpoint written.

    Args:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.code = INTERRUPTED if signum == signal.SIGINT else TERMINATED
        self.requeue = signum == signal.SIGUSR1


class Ear:
    """Hears SIGTERM and SIGINT, and SIGUSR1 under SLURM, which sends it before a job's time is up.

    The first is remembered for the end of the step; the second ends the process at once.

    Args:
        forward: Hands a signal on to the processes that this one started.
    """

    def __init__(self, forward: Callable[[int], None]) -> None:
        self.forward = forward
        self.pid = os.getpid()
        self.caught, self.since = 0, 0.0
        self.before: dict[int, Any] = {}

    def listen(self) -> None:
        """From now on; only the main thread can."""
        if self.before or threading.current_thread() is not threading.main_thread():
            return
        wanted = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]
        self.before = {signum: signal.signal(signum, self.hear) for signum in wanted}

    def rest(self) -> None:
        """Give the signals back to whoever had them, unless Lightning has done so: at a run's end it comes first."""
        for signum, handler in self.before.items():
            if signal.getsignal(signum) == self.hear:
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self.before = {}

    def hear(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.pid:
            return  # a process that loads data: it is needed to the end of the step
        if self.caught and signum != signal.SIGUSR1 and not self.echo():
            self.forward(signal.SIGKILL)
            os._exit(INTERRUPTED if signum == signal.SIGINT else TERMINATED)
        if not self.caught:
            self.caught, self.since = signum, time.monotonic()
            self.forward(signum)
            with contextlib.suppress(RuntimeError):  # the stream may be in the middle of a line
                log.info(f"{signal.Signals(signum).name}: finishing the step and saving; once more ends at once")

    def echo(self) -> bool:
        """Whether a repeated signal is the first one again: a terminal sends it to all processes, and whoever started this one, too."""
        if started_externally():
            return time.monotonic() - self.since < ECHO
        return not is_rank_zero()  # the process that started this one decides


def requeue() -> None:
    """Ask SLURM to start this job again. The job script says ``resume=auto``."""
    job = os.environ.get("SLURM_JOB_ID", "")
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{task}" if array and task else job
    if not name.replace("_", "").isdigit():
        return
    try:
        subprocess.run(["scontrol", "requeue", name], check=True, timeout=60)
        log.info(f"job {name} is queued again")
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(f"job {name} could not be queued again ({error}): submit it by hand, it goes on with resume=auto")
