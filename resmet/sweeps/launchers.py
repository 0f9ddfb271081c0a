"""Where a trial runs: as a process of this machine, or as a job of a SLURM queue. Each trial is a program of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from foundation.structures import InputError
from resmet.callbacks.signals import TERMINATED
from resmet.cli.conf_files import ROOT
from resmet.cli.exit_codes import FAILURE
from resmet.sweeps.slurm_job import attempt

OF_TASKS = {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"}
"""What says that SLURM has started the processes of a run; those of a trial on this machine are started by the trial."""


class Handle:
    """A trial that has been started."""

    job: str | None = None  # its number in the queue
    card: str | None = None  # the card that it was dealt
    said: str = ""  # what is to be told of its end instead of its own last words

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        raise NotImplementedError

    def stop(self, sent: int) -> None:
        """Ask it to save and end, by the signal `sent`."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it at once."""
        raise NotImplementedError


class Process(Handle):
    """A trial on this machine, with a session of its own: what is typed at the terminal reaches it through the sweep alone."""

    def __init__(self, line: Sequence[str], logs: Path, number: int, lock: int, card: str | None) -> None:
        self.card = card
        environment = {name: value for name, value in os.environ.items() if name not in OF_TASKS}
        if card is not None:
            environment["CUDA_VISIBLE_DEVICES"] = card
        with (logs / f"{number}.out").open("ab") as out, (logs / f"{number}.err").open("ab") as err:
            self.process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),  # the folder stays locked while a trial is alive, whatever becomes of the sweep
            )

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self, sent: int) -> None:
        self.process.send_signal(sent)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)


class Local:
    """Trials are processes of this machine.

    Args:
        cards: Numbers of the CUDA cards that are dealt out, one to a trial; null leaves all of them to every trial.
    """

    goes_on = False  # who ends a single trial here means it

    def __init__(self, cards: Sequence[int] | None = None) -> None:
        if cards is not None and not cards:
            raise InputError("sweep.launcher.cards=[]: name the cards, or say null")
        self.cards = [str(card) for card in cards] if cards is not None else None

    def start(self, line: Sequence[str], logs: Path, number: int, lock: int, beside: Sequence[Handle]) -> Process:
        """Run `line`, as one of the trials that run `beside` it, on the card with the fewest of them."""
        card = None
        if self.cards:
            held = Counter(handle.card for handle in beside)
            card = min(self.cards, key=lambda card: held[card])
        return Process(line, logs, number, lock, card)

    def find(self, job: str | None, logs: Path, number: int) -> Handle | None:
        """The trial that an earlier part of the sweep has started, where it may still run: here the lock says it does not."""
        return None


def refuse_lines(**words: str | None) -> None:
    """Refuse what is no single word: each becomes a line of a shell script, which a new line in it would go on with.

    Raises:
        InputError: Naming the key.
    """
    for key, word in words.items():
        if word is not None and not re.fullmatch(r"[\w.,:=&|()\[\]*@+-]+", word):
            raise InputError(
                f"sweep.launcher.{key}={word!r} is no word that sbatch takes: letters, digits and .,:=&|()[]*@+-"
            )


class Job(Handle):
    """A trial in the queue."""

    def __init__(self, job: Any, logs: Path, number: int) -> None:
        self.queued, self.job, self.said = job, str(job.job_id), ""
        self.exit, self.asked = logs / f"{number}.exit", logs / f"{number}.stop"

    def poll(self) -> int | None:
        over = self.queued.done()
        if self.exit.is_file():
            return int(self.exit.read_text())
        if not over:
            return None
        state = str(self.queued.state)
        self.said = f"job {self.job} ended as {state}, see {self.exit.parent}/submitit"
        return TERMINATED if state.startswith(("TIMEOUT", "PREEMPT", "CANCEL", "NODE_FAIL")) else FAILURE

    def stop(self, sent: int) -> None:
        """By a file: no signal reaches a process on another machine."""
        self.asked.touch()
        if self.queued.state == "PENDING":
            self.queued.cancel(check=False)

    def kill(self) -> None:
        self.queued.cancel(check=False)


class Slurm:
    """Trials are jobs of a SLURM queue, by submitit; the sweep itself runs on a login node and waits.

    Args:
        partition: And `account`, `qos`, `constraint`: as ``sbatch`` has them; null leaves them to the cluster.
        minutes: The longest that a job may take; a trial that needs more goes on in a second job.
        nodes: Machines of a trial.
        tasks_per_node: Processes on each.
        gpus_per_node: Cards on each machine.
        cpus_per_task: Cores of a process.
        memory_gb: Of a machine; null leaves it to the cluster.
        setup: Shell lines that run before the trial.
        cluster: ``local`` runs the jobs on this machine, without SLURM.
    """

    goes_on = True  # the queue takes machines away; a trial that has come further since is queued again

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        minutes: int = 240,
        nodes: int = 1,
        tasks_per_node: int = 1,
        gpus_per_node: int = 0,
        cpus_per_task: int = 4,
        memory_gb: float | None = None,
        setup: Sequence[str] = (),
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise InputError(
                f"sweep.launcher=slurm needs its package ({error}): pip install -c constraints.txt -e '.[slurm]', "
                "or choose sweep.launcher=local"
            ) from error
        if cluster == "slurm" and not shutil.which("sbatch"):
            raise InputError(
                "sweep.launcher=slurm finds no sbatch here: sweep from a login node of the cluster, or choose sweep.launcher=local"
            )
        refuse_lines(partition=partition, account=account, qos=qos, constraint=constraint)
        self.submitit, self.cluster = submitit, cluster
        asked = {
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_qos": qos,
            "slurm_constraint": constraint,
            "timeout_min": minutes,
            "nodes": nodes,
            "tasks_per_node": tasks_per_node,
            "gpus_per_node": gpus_per_node,
            "cpus_per_task": cpus_per_task,
            "mem_gb": memory_gb,
        }
        self.parameters = {key: value for key, value in asked.items() if value is not None}
        path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"
        self.setup = [path, *setup]

    def start(self, line: Sequence[str], logs: Path, number: int, lock: int, beside: Sequence[Handle]) -> Job:
        for left in ("exit", "stop"):
            (logs / f"{number}.{left}").unlink(missing_ok=True)
        executor = self.submitit.AutoExecutor(folder=logs.resolve() / "submitit", cluster=self.cluster)
        executor.update_parameters(name=f"resmet-{number}", **self.parameters, **self.lines())
        return Job(executor.submit(attempt, list(line), str(logs.resolve()), number), logs, number)

    def lines(self) -> dict[str, Any]:
        """What runs before the trial; the sweep queues again, not SLURM."""
        if self.cluster == "local":
            return {"local_setup": self.setup}
        return {"slurm_setup": self.setup, "slurm_additional_parameters": {"no_requeue": True}}

    def find(self, job: str | None, logs: Path, number: int) -> Handle | None:
        """The job that an earlier part of the sweep has queued; its trial need not start again."""
        if job is None or self.cluster == "local":
            return None
        return Job(self.submitit.SlurmJob(logs.resolve() / "submitit", job), logs, number)
