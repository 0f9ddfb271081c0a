"""Where trials run: as processes of this machine, or as jobs of a SLURM queue. Each trial is a program of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from foundation.structures import InputError
from resmet.cli.conf_files import ROOT
from resmet.cli.exit_codes import FAILURE, TERMINATED
from resmet.sweeps.slurm_job import run_trial

TASK_VARIABLES = {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"}
"""Variables that tell Lightning that SLURM started the processes of a run; a trial on this machine starts its own."""


class Handle:
    """A trial that was started.

    Attributes:
        job: Its number in the queue.
        gpu: The GPU that it was assigned.
        message: How it ended, if its own standard error can't tell.
    """

    job: str | None = None
    gpu: str | None = None
    message: str = ""

    def poll(self) -> int | None:
        """Returns its exit code, None while it runs."""
        raise NotImplementedError

    def stop(self, number: int) -> None:
        """Asks it to save and end, by the signal `number`."""
        raise NotImplementedError

    def kill(self) -> None:
        """Ends it at once."""
        raise NotImplementedError


class LocalTrial(Handle):
    """A trial on this machine, in a session of its own: keys typed at the terminal reach it through the sweep only."""

    def __init__(self, command: Sequence[str], logs: Path, number: int, lock: int, gpu: str | None) -> None:
        self.gpu = gpu
        environment = {name: value for name, value in os.environ.items() if name not in TASK_VARIABLES}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        with (logs / f"{number}.out").open("ab") as out, (logs / f"{number}.err").open("ab") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),  # the sweep's folder stays locked while a trial lives, even if the sweep is killed
            )

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)


class LocalLauncher:
    """Runs trials as processes of this machine.

    Args:
        gpus: Indices of the GPUs to assign, one to each trial; null lets every trial see all of them.
    """

    requeues = False  # a single trial is stopped on purpose here

    def __init__(self, gpus: Sequence[int] | None = None) -> None:
        if gpus is not None and not gpus:
            raise InputError("sweep.no_gpus", "sweep.launcher.gpus=[]: list the GPUs, or set null")
        self.gpus = [str(gpu) for gpu in gpus] if gpus is not None else None

    def start(
        self, command: Sequence[str], logs: Path, number: int, lock: int, running: Sequence[Handle]
    ) -> LocalTrial:
        """Starts `command` on the GPU that the fewest of the `running` trials use."""
        gpu = None
        if self.gpus:
            used = Counter(handle.gpu for handle in running)
            gpu = min(self.gpus, key=lambda gpu: used[gpu])
        return LocalTrial(command, logs, number, lock, gpu)

    def find(self, job: str | None, logs: Path, number: int) -> Handle | None:
        """Returns a trial of the sweep's earlier process that may still run: none here, since this process holds the lock."""
        return None


class QueuedTrial(Handle):
    """A trial in the queue."""

    def __init__(self, queued: Any, logs: Path, number: int) -> None:
        self.queued, self.job, self.message = queued, str(queued.job_id), ""
        self.exit_file, self.stop_file = logs / f"{number}.exit", logs / f"{number}.stop"

    def poll(self) -> int | None:
        over = self.queued.done()
        if self.exit_file.is_file():
            return int(self.exit_file.read_text())
        if not over:
            return None
        state = str(self.queued.state)
        self.message = f"job {self.job} ended as {state}, see {self.exit_file.parent}/submitit"
        return TERMINATED if state.startswith(("TIMEOUT", "PREEMPT", "CANCEL", "NODE_FAIL")) else FAILURE

    def stop(self, number: int) -> None:
        """Leaves a file that `run_trial` looks for: no signal reaches a process on another machine."""
        self.stop_file.touch()
        if self.queued.state == "PENDING":
            self.queued.cancel(check=False)

    def kill(self) -> None:
        self.queued.cancel(check=False)


class SlurmLauncher:
    """Runs trials as jobs of a SLURM queue, by submitit; the sweep itself runs on a login node and waits.

    Args:
        sbatch: Options of ``sbatch`` by name, such as partition, account, qos; null leaves one to the cluster.
        minutes: The time limit of a job; a trial that needs more is resumed in a second job.
        nodes: Machines of a trial.
        tasks_per_node: Processes on each.
        gpus_per_node: GPUs on each machine.
        cpus_per_task: Cores of a process.
        memory_gb: Of a machine; null leaves it to the cluster.
        setup: Shell lines that run before the trial.
        cluster: ``local`` runs the jobs on this machine, without SLURM.
    """

    requeues = True  # the queue takes machines away; a trial that finished an epoch since is queued again

    def __init__(
        self,
        sbatch: Mapping[str, str | None] | None = None,
        minutes: int = 240,
        nodes: int = 1,
        tasks_per_node: int = 1,
        gpus_per_node: int = 0,
        cpus_per_task: int = 4,
        memory_gb: float | None = None,
        setup: Sequence[str] = (),
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        self.submitit, self.cluster = import_submitit(cluster), cluster
        self.sbatch = check_sbatch(sbatch or {})
        self.resources = {
            "timeout_min": minutes,
            "nodes": nodes,
            "tasks_per_node": tasks_per_node,
            "gpus_per_node": gpus_per_node,
            "cpus_per_task": cpus_per_task,
        } | ({} if memory_gb is None else {"mem_gb": memory_gb})
        self.setup = [f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}", *setup]

    def start(
        self, command: Sequence[str], logs: Path, number: int, lock: int, running: Sequence[Handle]
    ) -> QueuedTrial:
        for suffix in ("exit", "stop"):
            (logs / f"{number}.{suffix}").unlink(missing_ok=True)
        executor = self.submitit.AutoExecutor(folder=logs.resolve() / "submitit", cluster=self.cluster)
        executor.update_parameters(name=f"resmet-{number}", **self.resources, **self.cluster_parameters())
        return QueuedTrial(executor.submit(run_trial, list(command), str(logs.resolve()), number), logs, number)

    def cluster_parameters(self) -> dict[str, Any]:
        """Returns what only one kind of cluster takes. The sweep queues a trial again, not SLURM."""
        if self.cluster == "local":
            return {"local_setup": self.setup}
        return {"slurm_setup": self.setup, "slurm_additional_parameters": {"no_requeue": True, **self.sbatch}}

    def find(self, job: str | None, logs: Path, number: int) -> Handle | None:
        """Returns the job that the sweep's earlier process queued; its trial need not start again."""
        if job is None or self.cluster == "local":
            return None
        return QueuedTrial(self.submitit.SlurmJob(logs.resolve() / "submitit", job), logs, number)


def import_submitit(cluster: str) -> Any:
    """Returns submitit.

    Raises:
        InputError: If it is not installed, or this machine can't submit to `cluster`.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise InputError(
            "sweep.missing_package",
            f"sweep.launcher=slurm needs its package ({error}): pip install -c constraints.txt -e '.[slurm]', "
            "or choose sweep.launcher=local",
        ) from error
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise InputError(
            "sweep.no_sbatch",
            "sweep.launcher=slurm finds no sbatch here: run the sweep on a login node, or choose sweep.launcher=local",
        )
    return submitit


def check_sbatch(options: Mapping[str, str | None]) -> dict[str, str]:
    """Returns the options that are set. Each becomes a line of a shell script, so names and values must be single words.

    Raises:
        InputError: Naming the key.
    """
    for name, value in options.items():
        if not re.fullmatch(r"[\w-]+", name) or (value and not re.fullmatch(r"[\w.,:=&|()\[\]*@+-]+", value)):
            text = f"sweep.launcher.sbatch.{name}={value!r} must be one word of letters, digits and .,:=&|()[]*@+-"
            raise InputError("sweep.invalid_sbatch", text)
    return {name: value for name, value in options.items() if value}
