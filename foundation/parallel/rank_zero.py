"""Which of a run's processes this is. Known before torch is imported, from the environment that the process was started in."""

from __future__ import annotations

import os

ENVIRONMENT = dict(os.environ)
"""The environment at the start of the process; Lightning adds to ``os.environ``."""


def started_by_torchrun() -> bool:
    """Whether torchrun started the ranks of this run; it starts them again after a failure."""
    return "TORCHELASTIC_RUN_ID" in ENVIRONMENT


def started_by_slurm() -> bool:
    """Whether srun started the ranks of this run; the conditions are those of Lightning's SLURMEnvironment."""
    tasks, job = ENVIRONMENT.get("SLURM_NTASKS") or "1", ENVIRONMENT.get("SLURM_JOB_NAME", "")
    return int(tasks) > 1 and "SLURM_PROCID" in ENVIRONMENT and job not in ("bash", "interactive")


def started_externally() -> bool:
    """Whether every rank was started by torchrun or SLURM, rather than the others by rank 0."""
    return started_by_torchrun() or started_by_slurm()


def rank() -> int:
    """Returns this process's global rank; where Lightning starts the ranks, only whether it is 0 is meaningful."""
    if started_by_torchrun():
        return int(ENVIRONMENT["RANK"])
    if started_by_slurm():
        return int(ENVIRONMENT["SLURM_PROCID"])
    return int(ENVIRONMENT.get("NODE_RANK", "0")) + int(ENVIRONMENT.get("LOCAL_RANK", "0"))


def is_rank_zero() -> bool:
    """Whether this process writes the run's files and logs."""
    return rank() == 0
