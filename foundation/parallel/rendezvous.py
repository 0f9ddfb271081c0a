"""The processes of one run: which of them this is, and what the first of them decides for all.

Lightning starts processes itself (they inherit this one's environment), or torchrun or SLURM starts them (they meet in a process group),
or a person starts one on each machine, with ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` set (they meet at a store on the first).
Whoever started them: the config is composed once, and one folder is written to.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from foundation.structures import RunError

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

    ways: dict[str, Any] = {"backend": "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"}
    if "TORCHELASTIC_RUN_ID" in STARTED:
        return ways | (fresh_store() if agent_store() else {})
    from lightning.fabric.plugins.environments import SLURMEnvironment

    cluster = SLURMEnvironment(auto_requeue=False)
    where = f"tcp://{cluster.main_address}:{cluster.main_port}"
    return ways | {"init_method": where, "rank": cluster.global_rank(), "world_size": cluster.world_size()}


def say_goodbye() -> None:
    """Close what `broadcast` opened; threads that still wait for others would abort the program at its end."""
    torch = sys.modules.get("torch")  # where it was never imported, nothing is open
    if launched() and torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def fresh_store() -> dict[str, Any]:
    """A part of torchrun's store that no earlier processes wrote to.

    The agent keeps one store for all starts of its processes, and torch 2.15 writes under the same keys each time: whoever comes second
    finds the addresses of the dead. So the first process thinks of a word, and hands it to those who ask now: one who answers to
    the word is alive.
    """
    from torch.distributed import PrefixStore

    own, world, agent = rank(), int(STARTED["WORLD_SIZE"]), agent_store()
    word = uuid4().hex
    if own == 0:
        answer(agent, word, set(range(1, world)))
    else:
        agent.set(f"resmet/ask/{own}", word)
        word = agent.get(f"resmet/answer/{word}").decode()  # waits for it
        agent.set(f"resmet/heard/{word}/{own}", "")
    return {"store": PrefixStore(f"resmet/{word}", agent), "rank": own, "world_size": world}


def answer(agent: Any, word: str, waiting: set[int]) -> None:
    """Tell `word` to the processes `waiting`, until each has heard it.

    Raises:
        RunError: If some never do.
    """
    until = time.monotonic() + WAIT.total_seconds()
    while waiting:
        for other in waiting:
            if agent.check([f"resmet/ask/{other}"]):
                agent.set(f"resmet/answer/{agent.get(f'resmet/ask/{other}').decode()}", word)
        waiting = {other for other in waiting if not agent.check([f"resmet/heard/{word}/{other}"])}
        if waiting and time.monotonic() > until:
            raise RunError(
                f"processes {sorted(waiting)} of this run did not come within {WAIT}: start all of them again"
            )
        time.sleep(0.02 if waiting else 0)


def agent_store() -> Any:
    """The store of torchrun's agent; None where this run has none."""
    if STARTED.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    return TCPStore(STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]), is_master=False, timeout=WAIT)


def store(opens: bool) -> Any:
    """The store at which machines meet that a person started one by one."""
    from torch.distributed import TCPStore

    if not _open or not isinstance(_open[-1], TCPStore):
        host, port = STARTED["MASTER_ADDR"], int(STARTED["MASTER_PORT"]) + 1
        _open.append(TCPStore(host, port, is_master=opens, wait_for_workers=False, timeout=WAIT))
    return _open[-1]


def remembered(text: str | None = None) -> str | None:
    """What a first process said here before torchrun started the processes anew, or `text` from now on; None outside torchrun."""
    agent = agent_store()
    if agent is None:
        return None
    if text is not None:
        agent.set(REMEMBERED, text)
    return agent.get(REMEMBERED).decode() if agent.check([REMEMBERED]) else None
