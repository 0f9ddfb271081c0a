"""A trial as a job of a queue: runs its command, ends it when asked to, leaves its exit code in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from foundation.storage.atomic import write_text

POLL_SECONDS = 0.5
NOTICES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a queue announces that it takes the machine away."""


def run_trial(command: Sequence[str], logs: str, number: int) -> int:
    """Runs `command`; its output goes to ``logs/<number>.out`` and ``.err``, its exit code to ``logs/<number>.exit``.

    A file ``logs/<number>.stop`` ends it with SIGTERM, on any machine of the cluster, and so does a notice of the queue.
    Of several processes rank 0 writes the exit code.
    """
    folder, rank = Path(logs), int(os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALID") or 0)
    name = str(number) if rank == 0 else f"{number}.{rank}"
    notices: list[int] = []
    before = {notice: signal.signal(notice, lambda sent, frame: notices.append(sent)) for notice in NOTICES}
    with (folder / f"{name}.out").open("ab") as out, (folder / f"{name}.err").open("ab") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        stopped = False
        while process.poll() is None:
            if not stopped and (notices or (folder / f"{number}.stop").exists()):
                process.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(POLL_SECONDS)
    for notice, handler in before.items():
        signal.signal(notice, handler)
    if rank == 0:
        write_text(folder / f"{number}.exit", str(process.returncode))
    return process.returncode
