"""The processes of one run: which of them this is, and what the first of them decides for all.

Lightning starts processes itself (they inherit this one's environment), or torchrun, SLURM or a person starts them (then they meet at a
store on the first one's machine). Whoever started them: the config is composed once, and one folder is written to.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

REFUSED = "refused"
MARK = "RESMET_TOLD_"
WAIT = 600.0
"""Seconds for which a process waits for the first one to decide."""

STARTED = dict(os.environ)
"""The environment that this process was started in; Lightning adds to it."""

_store: Any = None


def rank() -> int:
    """This process's number among all of a run; 0 decides and writes."""
    for name in ("RANK", "SLURM_PROCID") if launched() else ():
        if name in STARTED:
            return int(STARTED[name])
    return int(STARTED.get("NODE_RANK", "0")) + int(
        STARTED.get("LOCAL_RANK", "0")
    )  # whether above 0 is all that matters


def launched() -> bool:
    """Whether torchrun or SLURM started the processes of this run."""
    if "TORCHELASTIC_RUN_ID" in STARTED:
        return True
    tasks, name = STARTED.get("SLURM_NTASKS", "1"), STARTED.get("SLURM_JOB_NAME", "")
    return int(tasks or 1) > 1 and "SLURM_PROCID" in STARTED and name not in ("bash", "interactive")


def shared(name: str, make: Callable[[], str]) -> str:
    """The text that the first process of a run makes, in all of them."""
    if rank() > 0:
        return hear(name)
    text = make()
    tell(name, text)
    return text


def tell(name: str, text: str) -> None:
    """Let the other processes of this run `hear` it."""
    os.environ[MARK + name.upper()] = text
    if store := meeting():
        store.set(key(name), text)


def hear(name: str) -> str:
    """What the first process said under `name`; leaves with 2 where that was refused."""
    if (text := os.environ.get(MARK + name.upper())) is not None:
        return text
    store, until = meeting(), time.monotonic() + WAIT
    while store and time.monotonic() < until:
        if store.check([key(name)]):
            return store.get(key(name)).decode()
        if store.check([key(REFUSED)]):
            sys.exit(2)
        time.sleep(0.1)
    sys.exit(f"process {rank()} heard nothing of the first process of its run within {WAIT:.0f} s")


def refused() -> None:
    """Let the others end too: what was asked can't be done, and the first process has said why."""
    if rank() == 0 and (store := meeting()):
        store.set(key(REFUSED), "")


def heard_before(name: str) -> str | None:
    """What was said under `name` before torchrun started the processes anew; None where this is their first start."""
    count, store = restarts(), meeting() if restarts() else None
    for earlier in range(count - 1, -1, -1):
        if store and store.check([f"resmet/{earlier}/{name}"]):
            return store.get(f"resmet/{earlier}/{name}").decode()
    return None


def restarts() -> int:
    """How often torchrun has started the processes of this run anew."""
    return int(STARTED.get("TORCHELASTIC_RESTART_COUNT", "0"))


def key(name: str) -> str:
    return f"resmet/{restarts()}/{name}"


def meeting() -> Any:
    """The store at which processes meet that do not inherit an environment; None where this run has none."""
    global _store
    if _store is None and (where := address()):
        from torch.distributed import TCPStore

        host, port, hosts = where
        _store = TCPStore(host, port, is_master=hosts, wait_for_workers=False, timeout=timedelta(seconds=WAIT))
    return _store


def address() -> tuple[str, int, bool] | None:
    """Host and port of the store, and whether this process has to open it."""
    if STARTED.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]), False
    if launched() and "TORCHELASTIC_RUN_ID" not in STARTED:
        from lightning.fabric.plugins.environments import SLURMEnvironment

        cluster = SLURMEnvironment(auto_requeue=False)
        return cluster.main_address, cluster.main_port + 1, rank() == 0
    if ("MASTER_ADDR" in STARTED and "NODE_RANK" in STARTED) or launched():
        return STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]) + 1, rank() == 0
    return None
