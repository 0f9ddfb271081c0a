"""The processes of one run: which of them this is, and what the first of them decides for all.

Lightning starts processes itself (they inherit this one's environment), or torchrun or SLURM starts them (they meet in a process group),
or a person starts one on each machine, with ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` set (they meet at a store on the first).
Whoever started them: the config is composed once, and one folder is written to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

REFUSED = "refused"
MARK = "RESMET_TOLD_"
REMEMBERED = "resmet/run"
WAIT = timedelta(seconds=int(os.environ.get("RESMET_WAIT", "600")))
"""For so long a process waits for another, before it takes it to be gone; ``RESMET_WAIT`` gives other seconds."""

STARTED = dict(os.environ)
"""The environment that this process was started in; Lightning adds to it."""

_open: list[Any] = []
"""What was said so far, and the store that is kept open."""


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


def speaks() -> bool:
    """Whether this process says what goes wrong: the first one, until they train; then each for itself."""
    return rank() == 0 or "training" in _open


def part() -> None:
    """From now on something may go wrong in one process alone."""
    _open.append("training")


def shared(name: str, make: Callable[[], str]) -> str:
    """The text that the first process of a run makes, in all of them."""
    if rank() > 0:
        return hear(name)
    try:
        text = make()
    except Exception:
        tell(name, REFUSED)
        raise
    tell(name, text)
    return text


def tell(name: str, text: str) -> None:
    """Let the other processes of this run `hear` it."""
    _open.append(name)
    if launched():
        broadcast(text)
    elif "NODE_RANK" in STARTED and "MASTER_ADDR" in STARTED and "LOCAL_RANK" not in STARTED:
        store(True).set(name, text)
    os.environ[MARK + name.upper()] = text


def hear(name: str) -> str:
    """What the first process said under `name`; leaves with 2 where that was refused."""
    if launched():
        text = broadcast(None)
    elif "LOCAL_RANK" in STARTED and MARK + name.upper() in STARTED:
        text = STARTED[MARK + name.upper()]
    else:
        text = store(False).get(name).decode()
        os.environ[MARK + name.upper()] = text
    if text == REFUSED:
        sys.exit(2)
    return text


def refused() -> None:
    """Let the others end too: what was asked can't be done, and the first process has said why."""
    if rank() == 0 and not _open:
        tell("config", REFUSED)


def broadcast(text: str | None) -> str:
    """The first process's `text`, in the process group that Lightning will find and use."""
    import torch

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(**group(), timeout=WAIT)
    box = [text]
    torch.distributed.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return str(box[0])


def group() -> dict[str, Any]:
    """Where the processes meet, and how they talk: over NCCL between cards, else over Gloo."""
    import torch

    ways = {"backend": "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"}
    if "TORCHELASTIC_RUN_ID" in STARTED:
        return ways
    from lightning.fabric.plugins.environments import SLURMEnvironment

    cluster = SLURMEnvironment(auto_requeue=False)
    where = f"tcp://{cluster.main_address}:{cluster.main_port}"
    return ways | {"init_method": where, "rank": cluster.global_rank(), "world_size": cluster.world_size()}


def store(opens: bool) -> Any:
    """The store at which machines meet that a person started one by one."""
    from torch.distributed import TCPStore

    if not _open or not isinstance(_open[-1], TCPStore):
        host, port = STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]) + 1
        _open.append(TCPStore(host, port, is_master=opens, wait_for_workers=False, timeout=WAIT))
    return _open[-1]


def remembered(text: str | None = None) -> str | None:
    """What a first process said here before torchrun started the processes anew, or `text` from now on; None outside torchrun."""
    if STARTED.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    agent = TCPStore(STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]), is_master=False, timeout=WAIT)
    if text is not None:
        agent.set(REMEMBERED, text)
    return agent.get(REMEMBERED).decode() if agent.check([REMEMBERED]) else None
