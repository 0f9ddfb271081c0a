"""Where trials run: as processes of this machine, or as jobs of a SLURM queue. Each trial is a program of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foundation.storage.atomic import write_text
from foundation.structures import InputError
from resmet.cli.conf_files import ROOT
from resmet.cli.exit_codes import FAILURE, TERMINATED

if TYPE_CHECKING:
    from submitit import Job

TASK_VARIABLES = {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"}
"""Variables by which Lightning knows that SLURM started the processes of a run; a trial on this machine starts its own."""

POLL_SECONDS = 0.5
NOTICES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a queue announces that it takes the machine away."""


class LocalTrial(subprocess.Popen):
    """A trial on this machine, in a session of its own: keys typed at the terminal reach it through the sweep only."""

    job: str | None = None
    message = ""

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)


class LocalLauncher:
    """Runs trials as processes of this machine, each on one of `gpus` (indices), or seeing all GPUs if that is null."""

    requeues = False  # a single trial is stopped on purpose here

    def __init__(self, gpus: Sequence[int] | None = None) -> None:
        if gpus is not None and not gpus:
            raise InputError("sweep.no_gpus", "sweep.launcher.gpus=[]: list the GPUs, or set null")
        self.gpus = gpus
        self.started: list[tuple[LocalTrial, int]] = []

    def start(self, command: Sequence[str], logs: Path, number: int, lock: int) -> LocalTrial:
        """Starts `command` on the GPU that the fewest running trials use."""
        environment = {name: value for name, value in os.environ.items() if name not in TASK_VARIABLES}
        gpu = -1
        if self.gpus:
            used = Counter(gpu for trial, gpu in self.started if trial.poll() is None)
            gpu = min(self.gpus, key=lambda gpu: used[gpu])
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        with (logs / f"{number}.out").open("ab") as out, (logs / f"{number}.err").open("ab") as err:
            trial = LocalTrial(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),  # the sweep's folder stays locked while a trial lives, even if the sweep is killed
            )
        self.started.append((trial, gpu))
        return trial

    def find(self, job: str, logs: Path, number: int) -> LocalTrial | None:
        """Returns a trial of the sweep's earlier process that may still run: none here, since this process holds the lock."""
        return None


def run_trial(command: Sequence[str], logs: str, number: int) -> int:
    """Runs `command` as a job of a queue; its output goes to ``logs/<number>.out`` and ``.err``, its exit code to ``logs/<number>.exit``.

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


class QueuedTrial:
    """A trial in the queue.

    Attributes:
        message: How it ended, if its own standard error can't tell.
    """

    def __init__(self, queued: Job[int], logs: Path, number: int) -> None:
        self.queued, self.job, self.message = queued, str(queued.job_id), ""
        self.exit_file, self.stop_file = logs / f"{number}.exit", logs / f"{number}.stop"

    def poll(self) -> int | None:
        """Returns its exit code, None while it runs."""
        over = self.queued.done()
        if self.exit_file.is_file():
            return int(self.exit_file.read_text())
        if not over:
            return None
        state = str(self.queued.state)
        self.message = f"job {self.job} ended as {state}, see {self.exit_file.parent}/submitit"
        return TERMINATED if state.startswith(("TIMEOUT", "PREEMPT", "CANCEL", "NODE_FAIL")) else FAILURE

    def send_signal(self, number: int) -> None:
        """Leaves a file that `run_trial` looks for: no signal reaches a process on another machine."""
        self.stop_file.touch()
        if self.queued.state == "PENDING":
            self.queued.cancel(check=False)

    def kill(self) -> None:
        self.queued.cancel(check=False)


class SlurmLauncher:
    """Runs trials as jobs of a SLURM queue, by submitit; the sweep itself runs on a login node and polls them.

    ``conf/sweep/launcher/slurm.yaml`` explains the parameters.

    Raises:
        InputError: If submitit is not installed, or this machine can't submit to `cluster`.
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
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise InputError(
                "sweep.missing_package",
                f"sweep.launcher=slurm needs its package ({error}): pip install -c constraints.txt -e '.[slurm]', "
                "or choose sweep.launcher=local",
            ) from error
        if cluster == "slurm" and not shutil.which("sbatch"):
            text = "sweep.launcher=slurm finds no sbatch here: run the sweep on a login node, or choose sweep.launcher=local"
            raise InputError("sweep.no_sbatch", text)
        self.submitit, self.cluster = submitit, cluster
        resources = {"nodes": nodes, "tasks_per_node": tasks_per_node, "gpus_per_node": gpus_per_node}
        memory = {} if memory_gb is None else {"mem_gb": memory_gb}
        self.parameters: dict[str, Any] = {
            "timeout_min": minutes,
            "cpus_per_task": cpus_per_task,
            **resources,
            **memory,
        }
        lines = [f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}", *setup]
        self.parameters[f"{cluster}_setup"] = lines
        options = {"no_requeue": True, **check_sbatch(sbatch or {})}  # the sweep queues a trial again, not SLURM
        if cluster == "slurm":
            self.parameters["slurm_additional_parameters"] = options

    def start(self, command: Sequence[str], logs: Path, number: int, lock: int) -> QueuedTrial:
        for suffix in ("exit", "stop"):
            (logs / f"{number}.{suffix}").unlink(missing_ok=True)
        executor = self.submitit.AutoExecutor(folder=logs.resolve() / "submitit", cluster=self.cluster)
        executor.update_parameters(name=f"resmet-{number}", **self.parameters)
        return QueuedTrial(executor.submit(run_trial, list(command), str(logs.resolve()), number), logs, number)

    def find(self, job: str, logs: Path, number: int) -> QueuedTrial | None:
        """Returns the job that the sweep's earlier process queued; its trial need not start again."""
        if self.cluster == "local":
            return None
        return QueuedTrial(self.submitit.SlurmJob(logs.resolve() / "submitit", job), logs, number)


Handle = LocalTrial | QueuedTrial
"""A trial that was started."""


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
