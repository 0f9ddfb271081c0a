"""A trial as a job of a queue: run its command, end it when asked to, leave its exit code in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from foundation.storage.atomic import write_text

POLL = 0.5  # seconds
NOTICES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What a queue says before it takes the machine away."""


def attempt(line: Sequence[str], logs: str, number: int) -> int:
    """Run `line`; its output goes to ``logs/<number>.out`` and ``.err``, its exit code to ``logs/<number>.exit``.

    A file ``logs/<number>.stop`` ends it with SIGTERM, wherever in the cluster this is, and so does a notice of the queue.
    Of several processes the first writes the exit code.
    """
    folder, rank = Path(logs), int(os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALID") or 0)
    name = str(number) if rank == 0 else f"{number}.{rank}"
    noticed: list[int] = []
    before = {notice: signal.signal(notice, lambda sent, frame: noticed.append(sent)) for notice in NOTICES}
    with (folder / f"{name}.out").open("ab") as out, (folder / f"{name}.err").open("ab") as err:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        asked = False
        while process.poll() is None:
            if not asked and (noticed or (folder / f"{number}.stop").exists()):
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(POLL)
    for notice, handler in before.items():
        signal.signal(notice, handler)
    if rank == 0:
        write_text(folder / f"{number}.exit", str(process.returncode))
    return process.returncode
