"""Agreement of the ranks of a run on the config, the folder, and under torchrun the process group.

Every rank composes the same config from the same command line. Ranks that Lightning starts inherit what rank 0 found; ranks that
torchrun, SLURM or a person starts name the run's folder by an id that they have in common.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from foundation.parallel.rank_zero import ENVIRONMENT, rank, started_by_slurm, started_by_torchrun, started_externally
from foundation.structures import InputError, RunError

PREFIX = "RESMET_SHARED_"
TIMEOUT = timedelta(seconds=int(os.environ.get("RESMET_WAIT", "600")))
"""How long a collective waits for the other ranks before it fails; ``RESMET_WAIT`` sets other seconds."""


def inherited(name: str) -> str | None:
    """Returns the text that rank 0 shared as `name` before Lightning started this process; None in any other process."""
    by_lightning = "LOCAL_RANK" in ENVIRONMENT and not started_externally()
    return ENVIRONMENT.get(PREFIX + name.upper()) if by_lightning else None


def shared(name: str, make: Callable[[], str]) -> str:
    """Returns a text that rank 0 makes and the ranks that Lightning starts from it inherit; all other ranks make it themselves."""
    text = inherited(name)
    if text is None:
        text = make()
        os.environ[PREFIX + name.upper()] = text
    return text


def run_id() -> str | None:
    """Returns an id that all separately started ranks of this run have in common; None where one process starts the others.

    Raises:
        InputError: If the ranks were started separately and have no id in common.
    """
    ids = [ENVIRONMENT.get(name, "none") for name in ("RESMET_RUN_ID", "TORCHELASTIC_RUN_ID")]
    if started_by_slurm():
        ids.append(f"{ENVIRONMENT.get('SLURM_JOB_ID', '0')}.{ENVIRONMENT.get('SLURM_STEP_ID', '0')}")
    found = next((re.sub(r"[^\w.-]", "-", name) for name in ids if name != "none"), None)
    if found is None and (started_by_torchrun() or "NODE_RANK" in ENVIRONMENT):
        remedy = "set run_dir=DIR, or torchrun's --standalone or --rdzv-id=NAME, or RESMET_RUN_ID=NAME"
        raise InputError("parallel.no_run_id", f"the ranks were started separately and have no id in common: {remedy}")
    return found


def prints_errors() -> bool:
    """Whether this process prints its errors: all ranks once they train, since one of them alone may fail; before, when all have the
    same errors, the first on its machine, or under torchrun and SLURM rank 0."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return True
    return rank() == 0 if started_externally() else ENVIRONMENT.get("LOCAL_RANK", "0") == "0"


def init_process_group() -> None:
    """Initializes the process group under torchrun, such that Lightning finds and uses it; elsewhere Lightning initializes it.

    torchrun's agent keeps one store over all restarts of its processes, and torch 2.15 writes the same keys to it each time, so that
    restarted ranks would read the addresses of the processes that died.
    """
    import torch

    if ENVIRONMENT.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or torch.distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    size = int(ENVIRONMENT["WORLD_SIZE"])
    store = unused_store(size)
    torch.distributed.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank(), world_size=size)
    atexit.register(torch.distributed.destroy_process_group)  # else its threads abort the process at exit


def unused_store(size: int) -> Any:
    """Returns a part of the agent's store that no earlier process of the run wrote to.

    Rank 0 chooses its prefix and answers each rank under a key of that rank's own choice, which only a live rank reads.

    Raises:
        RunError: If other ranks do not arrive in time.
    """
    from torch.distributed import PrefixStore, TCPStore

    address, port = ENVIRONMENT["MASTER_ADDR"], int(ENVIRONMENT["MASTER_PORT"])
    agent = TCPStore(address, port, is_master=False, timeout=TIMEOUT)
    key = uuid4().hex
    if rank() > 0:
        agent.set(f"resmet/rank/{rank()}", key)
        prefix = agent.get(f"resmet/prefix/{key}").decode()  # blocks until rank 0 answers
        agent.add(f"resmet/ready/{prefix}", 1)
        return PrefixStore(prefix, agent)
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while agent.add(f"resmet/ready/{key}", 0) < size - 1:
        for other in range(1, size):
            if agent.check([f"resmet/rank/{other}"]):
                agent.set(f"resmet/prefix/{agent.get(f'resmet/rank/{other}').decode()}", key)
        if time.monotonic() > deadline:
            raise RunError("parallel.missing_ranks", f"not all {size} ranks started within {TIMEOUT}: start them again")
        time.sleep(0.02)
    return PrefixStore(key, agent)
