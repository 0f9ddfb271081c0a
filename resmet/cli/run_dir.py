"""Where a run writes: a new folder, or one that is gone on with; never a mix of two runs."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from foundation.parallel import rendezvous
from foundation.storage.atomic import write_text
from foundation.storage.locks import LOCK, try_lock
from foundation.storage.safe_load import printable
from foundation.structures import InputError
from resmet.cli.entrypoint import sweep_folder
from resmet.cli.saved_config import AUTO, begun, flat, read_config, refuse_another_run, refuse_lost, reopen, same_run

LOCKS: list[FileLock] = []
"""The locks that this process holds until it ends."""

log = logging.getLogger("resmet")


def find_folder(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """The config to run and the folder to write to, the same in all processes. Nothing is written yet: see `open_folder`.

    Raises:
        InputError: If the folder holds another run, or what is to be resumed is no run.
    """
    text = rendezvous.shared("run", lambda: as_text(*decide(cfg)))
    decided: Any = OmegaConf.create(text)
    return decided.config, Path(decided.folder)


def as_text(cfg: DictConfig, folder: str) -> str:
    rendezvous.remembered(folder)
    return OmegaConf.to_yaml({"config": OmegaConf.to_container(cfg, resolve=True), "folder": folder})


def decide(cfg: DictConfig) -> tuple[DictConfig, str]:
    """The config and the folder, for `find_folder`."""
    if isinstance(cfg.seed, bool) or not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to {2**32 - 1}, got {cfg.seed!r}")
    if before := rendezvous.remembered():  # torchrun started the processes anew: it is the same run
        cfg.run_dir, cfg.resume = before, AUTO
    if cfg.resume == AUTO:
        return continue_or_begin(cfg)
    if cfg.resume:
        cfg, folder = reopen(cfg)
        return cfg, str(folder)
    return cfg, str(free_folder(cfg.run_dir, task_name(cfg)))


def continue_or_begin(cfg: DictConfig) -> tuple[DictConfig, str]:
    """This very run where it was begun; else a new one in a free folder, or in that of one that died before its first checkpoint."""
    cfg.resume = None
    if cfg.run_dir:
        named = place(cfg.run_dir, sweep_folder())
        known = [named] if (named / "config.yaml").is_file() else []
    else:
        runs = sorted((Path("outputs") / task_name(cfg)).glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
        known = [path.parent for path in runs if same_run(cfg, path.parent)][-1:]
    if not known:
        return cfg, str(free_folder(cfg.run_dir, task_name(cfg)))
    if not same_run(cfg, known[0]):
        remedy = f"resume=auto takes all the words that began the run: say them again, say resume={known[0]} alone, or name another run_dir"
        refuse_another_run(flat(read_config(known[0])), flat(cfg), known[0], remedy)
    if begun(known[0]):
        cfg.resume = str(known[0])
    else:
        refuse_lost(known[0])
    return cfg, str(known[0])


def open_folder(folder: Path, name: str, cfg: DictConfig | None = None) -> None:
    """Make the folder, write the config that repeats the run, start ``<name>.log``.

    Raises:
        InputError: If the folder can't be made.
    """
    if is_child():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock(folder)
        if cfg is not None:
            write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        start_log(folder / f"{name}.log")
    except OSError as error:
        raise InputError(f"run_dir={folder} can't be written ({error.strerror}): name another folder") from error


def lock(folder: Path) -> None:
    """Keep `folder` for this process until it ends; a job that was started twice writes once.

    Raises:
        InputError: If another process has it.
    """
    held = try_lock(folder)
    if held is None:
        raise InputError(f"{folder} is being written by another process: wait for it, or name another run_dir")
    LOCKS.append(held)


def task_name(cfg: DictConfig) -> str:
    """The word that chose the task."""
    return str(cfg.task._target_).split(".")[1]


def claim(run_dir: str | None, kind: str) -> Path:
    """A folder that holds no run yet; a time-stamped one below ``outputs/<kind>`` where none was named."""
    return Path(rendezvous.shared("folder", lambda: str(free_folder(run_dir, kind))))


def place(run_dir: str, sweep: str | None) -> Path:
    """The folder of a run; one below `run_dir` for each run of a sweep."""
    return Path(run_dir) / str(HydraConfig.get().job.num) if sweep else Path(run_dir)


def free_folder(run_dir: str | None, kind: str) -> Path:
    sweep = sweep_folder()
    if run_dir:
        folder = place(run_dir, sweep)
    else:
        folder = Path(sweep) if sweep else unused(Path("outputs") / kind / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"run_dir={folder} is a file: name a folder")
    held = sorted(child.name for child in folder.iterdir() if child.name != LOCK) if folder.is_dir() else []
    if held:
        resume = "" if kind in ("evaluate", "predict") else f", or go on with that run by resume={folder}"
        raise InputError(f"run_dir={folder} already holds {', '.join(held[:4])}: name another folder{resume}")
    return folder


def unused(folder: Path) -> Path:
    """`folder`, or the first of ``folder-2``, ``folder-3`` ... that is not there: two runs may start within a second."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def is_child() -> bool:
    """Whether another process of the same run writes to the folder and speaks."""
    return rendezvous.rank() > 0


class Printable(logging.Formatter):
    """Names of files and classes are somebody else's: what in them would steer a terminal is spelled out."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def start_log(path: Path) -> None:
    """What the program says goes to the console and to a file."""
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # a line that a full disk does not take is no reason for a trace
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    console, file = logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")
    console.setFormatter(Printable("%(message)s"))
    file.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(console)
    log.addHandler(file)
