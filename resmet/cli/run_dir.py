"""The folder that a run writes to: a new one, or that of the run to resume; never a mix of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from foundation.parallel import rendezvous
from foundation.parallel.rank_zero import is_rank_zero, started_by_torchrun
from foundation.storage.atomic import write_text
from foundation.storage.locks import try_lock
from foundation.structures import InputError
from resmet.checkpoints.layout import has_checkpoint
from resmet.cli.console_log import start_log
from resmet.cli.free_dir import OUTPUTS, default_dir, free_dir, named_dir
from resmet.cli.hydra_state import to_plain
from resmet.cli.saved_config import (
    AUTO,
    flat,
    read_config,
    refuse_finished,
    refuse_other_run,
    reopen,
    same_run,
)

LOCKS: list[FileLock] = []
"""Held until the process ends."""


def find_run_dir(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """Returns the config to run and the folder to write to, the same in all processes. Writes nothing: see `open_run_dir`.

    Raises:
        InputError: If the folder holds another run, or what is to be resumed is no run.
    """
    text = rendezvous.shared("run", lambda: serialize(*decide(cfg)))
    decided: Any = OmegaConf.create(text)
    return decided.config, Path(decided.folder)


def serialize(cfg: DictConfig, folder: str) -> str:
    return OmegaConf.to_yaml({"config": to_plain(cfg), "folder": folder})


def decide(cfg: DictConfig) -> tuple[DictConfig, str]:
    """Returns the config and the folder, for `find_run_dir`."""
    if isinstance(cfg.seed, bool) or not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        text = f"seed must be a whole number from 0 to {2**32 - 1}, got {cfg.seed!r}"
        raise InputError("config.invalid_seed", text)
    if started_by_torchrun() and not cfg.resume:  # it restarts the processes of a run with the same command
        cfg.run_dir, cfg.resume = cfg.run_dir or str(default_dir(task_name(cfg))), AUTO
    if cfg.resume == AUTO:
        return resume_or_start(cfg)
    if cfg.resume:
        cfg, folder = reopen(cfg)
        return cfg, str(folder)
    return cfg, str(free_dir(cfg.run_dir, task_name(cfg)))


def resume_or_start(cfg: DictConfig) -> tuple[DictConfig, str]:
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
        return cfg, str(free_dir(cfg.run_dir, task_name(cfg)))
    folder = known[0]
    if not same_run(cfg, folder):
        remedy = f"resume=auto needs all overrides of the run's start: repeat them, use resume={folder} alone, or name another run_dir"
        refuse_other_run(flat(read_config(folder)), flat(cfg), folder, remedy)
    if has_checkpoint(folder):
        cfg.resume = str(folder)
    else:
        refuse_finished(folder)
    return cfg, str(folder)


def open_run_dir(folder: Path, name: str, cfg: DictConfig | None = None) -> None:
    """Creates and locks the folder, writes ``config.yaml``, from which the run can be repeated, and starts ``<name>.log``.

    Raises:
        InputError: If the folder can't be written, or another process writes to it.
    """
    if not is_rank_zero():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock(folder)
        if cfg is not None:
            write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        start_log(folder / f"{name}.log")
    except OSError as error:
        text = f"run_dir={folder} can't be written ({error.strerror}): name another folder"
        raise InputError("run_dir.not_writable", text) from error


def lock(folder: Path) -> None:
    """Locks `folder` until this process ends, so that a job that was started twice writes once.

    Raises:
        InputError: If another process holds the lock.
    """
    held = try_lock(folder)
    if held is None:
        text = f"another process writes to {folder}: wait until it ends, or name another run_dir"
        raise InputError("run_dir.locked", text)
    LOCKS.append(held)


def task_name(cfg: DictConfig) -> str:
    """Returns the module of the chosen task, e.g. ``detection``."""
    return str(cfg.task._target_).split(".")[1]
