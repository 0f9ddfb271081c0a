"""Where a run writes: a new folder, or one that is gone on with; never a mix of two runs."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runs.command import sweep_folder
from runs.resuming import reopen
from structures import InputError

CHILD_OF = "RESMET_RUN_DIR"
"""Set for the processes that a run starts itself, so that they write into its folder rather than into new ones."""

log = logging.getLogger("resmet")


def find_folder(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """The config to run and the folder to write to. Nothing is written yet: see `open_folder`.

    Raises:
        InputError: If the folder holds another run, or what is to be resumed is no run.
    """
    if isinstance(cfg.seed, bool) or not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to {2**32 - 1}, got {cfg.seed!r}")
    if cfg.resume:
        cfg, folder = reopen(cfg)
        os.environ[CHILD_OF] = str(folder.resolve())
        return cfg, folder
    return cfg, claim(cfg.run_dir, task_name(cfg))


def open_folder(folder: Path, name: str, cfg: DictConfig | None = None) -> None:
    """Make the folder, write the config that repeats the run, start ``<name>.log``.

    Raises:
        InputError: If the folder can't be made.
    """
    if is_child():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if cfg is not None:
            write_whole(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        start_log(folder / f"{name}.log")
    except OSError as error:
        raise InputError(f"run_dir={folder} can't be written ({error.strerror}): name another folder") from error


def task_name(cfg: DictConfig) -> str:
    """The word that chose the task."""
    return str(cfg.task._target_).split(".")[1]


def claim(run_dir: str | None, kind: str) -> Path:
    """A folder that holds no run yet; a time-stamped one below ``outputs/<kind>`` where none was named."""
    if is_child() and (parent := os.environ.get(CHILD_OF)):
        return Path(parent)
    sweep = sweep_folder()
    if run_dir:
        folder = Path(run_dir) / str(HydraConfig.get().job.num) if sweep else Path(run_dir)
    else:
        folder = Path(sweep) if sweep else unused(Path("outputs") / kind / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"run_dir={folder} is a file: name a folder")
    held = sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []
    if held:
        raise InputError(
            f"run_dir={folder} already holds {', '.join(held[:4])}: name another folder, or go on with that run by resume={folder}"
        )
    os.environ[CHILD_OF] = str(folder.resolve()) if not sweep else ""
    return folder


def unused(folder: Path) -> Path:
    """`folder`, or the first of ``folder-2``, ``folder-3`` ... that is not there: two runs may start within a second."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def is_child() -> bool:
    """Whether this process was started by another of the same run."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def write_if_possible(path: Path, text: str) -> None:
    """`write_whole` for what can be written again later: a full disk is said, and the run goes on."""
    try:
        write_whole(path, text)
    except OSError as error:
        log.warning(f"{path} could not be written ({error.strerror}): the run goes on")


def start_log(path: Path) -> None:
    """What the program says goes to the console and to a file."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    console, file = logging.StreamHandler(), logging.FileHandler(path)
    console.setFormatter(logging.Formatter("%(message)s"))
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(console)
    log.addHandler(file)
