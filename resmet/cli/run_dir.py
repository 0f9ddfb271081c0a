"""The folder that a run writes to: a new one, or that of the run to resume; never one that holds another run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from foundation.parallel import rendezvous
from foundation.parallel.rank_zero import is_rank_zero, started_by_torchrun
from foundation.storage.atomic import PART, write_text
from foundation.storage.locks import LOCK, try_lock
from foundation.structures import InputError
from resmet.checkpoints.layout import has_checkpoint
from resmet.cli.console_log import start_log
from resmet.cli.hydra_state import multirun, to_plain
from resmet.cli.saved_config import AUTO, flat, read_config, refuse_finished, refuse_other_run, reopen, same_run

OUTPUTS = Path("outputs")
TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"
LOCKS: list[FileLock] = []
"""Held until the process ends."""


def find_run_dir(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """Returns the config to train with and the folder to write to, the same in all processes. Writes nothing.

    Raises:
        InputError: If the folder holds another run, or what is to be resumed is no run.
    """

    def decide() -> str:
        config, folder = resolve_resume(cfg)
        return OmegaConf.to_yaml({"config": to_plain(config), "folder": str(folder)})

    decided: Any = OmegaConf.create(rendezvous.shared("run", decide))
    return decided.config, Path(decided.folder)


def resolve_resume(cfg: DictConfig) -> tuple[DictConfig, Path]:
    if isinstance(cfg.seed, bool) or not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        text = f"seed must be a whole number from 0 to {2**32 - 1}, got {cfg.seed!r}"
        raise InputError("config.invalid_seed", text)
    if started_by_torchrun() and not cfg.resume:  # it restarts the processes of a run with the same command
        cfg.run_dir, cfg.resume = cfg.run_dir or str(default_dir(task_name(cfg))), AUTO
    if cfg.resume == AUTO:
        return resume_or_start(cfg)
    return reopen(cfg) if cfg.resume else (cfg, free_dir(cfg.run_dir, task_name(cfg)))


def resume_or_start(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """Resumes the run of this config if it was started before, else starts it.

    A run that died before its first checkpoint starts again in its folder.
    """
    cfg.resume = None
    if cfg.run_dir:
        named = named_dir(cfg.run_dir)
        known = [named] if (named / "config.yaml").is_file() else []
    else:
        runs = sorted((OUTPUTS / task_name(cfg)).glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
        known = [path.parent for path in runs if same_run(cfg, path.parent)][-1:]
    if not known:
        return cfg, free_dir(cfg.run_dir, task_name(cfg))
    folder = known[0]
    remedy = f"resume=auto needs all overrides of the run's start: repeat them, use resume={folder} alone, or name another run_dir"
    refuse_other_run(flat(read_config(folder)), flat(cfg), folder, remedy)
    if has_checkpoint(folder):
        cfg.resume = str(folder)
    else:
        refuse_finished(folder)
    return cfg, folder


def task_name(cfg: DictConfig) -> str:
    """Returns the module of the chosen task, e.g. ``detection``."""
    return str(cfg.task._target_).split(".")[1]


def new_run_dir(run_dir: str | None, kind: str) -> Path:
    """Returns `free_dir`, the same in all processes of a run."""
    return Path(rendezvous.shared("folder", lambda: str(free_dir(run_dir, kind))))


def free_dir(run_dir: str | None, kind: str) -> Path:
    """Returns a folder that holds no run yet: `run_dir`, or a time-stamped one below ``outputs/<kind>``. It is not created.

    In a Hydra multirun each run has a folder below the named one.

    Raises:
        InputError: If the named folder is a file, or not empty.
    """
    several = multirun()
    folder = named_dir(run_dir) if run_dir else Path(several.runtime.output_dir) if several else default_dir(kind)
    present = folder_contents(folder)
    if not is_rank_zero():  # rank 0 may have opened the folder by now
        present = [name for name in present if name != "config.yaml" and not name.endswith((".log", PART))]
    if present:
        resume = "" if kind in ("evaluate", "predict") else f", or resume that run with resume={folder}"
        text = f"run_dir={folder} already holds {', '.join(present[:4])}: name another folder{resume}"
        raise InputError("run_dir.not_empty", text)
    return folder


def named_dir(run_dir: str) -> Path:
    several = multirun()
    return Path(run_dir) / str(several.job.num) if several else Path(run_dir)


def folder_contents(folder: Path) -> list[str]:
    """Returns the names of what a folder holds besides its lock; an absent folder holds nothing.

    Raises:
        InputError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("run_dir.is_a_file", f"run_dir={folder} is a file: name a folder")
    return sorted(child.name for child in folder.iterdir() if child.name != LOCK) if folder.is_dir() else []


def default_dir(kind: str) -> Path:
    """Returns the folder of a run that names none, the same in all of its ranks."""
    return OUTPUTS / kind / run_id if (run_id := rendezvous.run_id()) else time_stamped(kind)


def time_stamped(kind: str) -> Path:
    """Returns ``outputs/<kind>/<date>_<time>``, or with -2, -3 ... after it if that exists: two runs may start within a second."""
    folder = candidate = OUTPUTS / kind / datetime.now().strftime(TIME_FORMAT)
    number = 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def open_run_dir(folder: Path, name: str, cfg: DictConfig | None = None) -> None:
    """Creates and locks the folder, writes ``config.yaml``, from which the run can be repeated, and starts ``<name>.log``.

    The lock is held until the process ends, so that of a job that was started twice one writes.

    Raises:
        InputError: If the folder can't be written, or another process writes to it.
    """
    if not is_rank_zero():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(folder)
        if lock is None:
            text = f"another process writes to {folder}: wait until it ends, or name another run_dir"
            raise InputError("run_dir.locked", text)
        LOCKS.append(lock)
        if cfg is not None:
            write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        start_log(folder / f"{name}.log")
    except OSError as error:
        text = f"run_dir={folder} can't be written ({error.strerror}): name another folder"
        raise InputError("run_dir.not_writable", text) from error
