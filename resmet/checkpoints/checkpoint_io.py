"""Checkpoints that are written whole or not at all, proven before the one before gives way, and read without running code."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from foundation.storage.safe_load import safe_load
from foundation.structures import InputError, RunError, first_line
from resmet.checkpoints.layout import BEST, LAST, candidates, previous

log = logging.getLogger("resmet")


class WholeFiles(TorchCheckpointIO):
    """Write beside the target, sync to disk, prove it readable, then rename: a full disk or a kill leaves the previous file as it was.

    Lightning's own writer goes through the system's temporary folder and copies, which can destroy both.

    Args:
        keep: How many earlier ones of ``last.ckpt`` stay, as ``previous-1.ckpt`` (the youngest), ``previous-2.ckpt`` ...
        stop: Whether a checkpoint that can't be written ends the run; otherwise that is said, and the run goes on.

    What could not be written stays in memory and is tried again before the next: ``last.ckpt`` says which score is the best, and must
    not be on disk before the weights that had it.

    Attributes:
        held: By name what is not on disk yet, and where it belongs.
    """

    def __init__(self, keep: int = 1, stop: bool = False) -> None:
        super().__init__()
        self.keep, self.stop = keep, stop
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        self.held: dict[str, tuple[Path, dict[str, Any]]] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; with ``storage_options={"background": True}`` from a copy, beside the training.

        Raises:
            RunError: If it can't be written and that is to end the run, now or the next time.
        """
        self.wait()
        target = Path(path)
        if storage_options and storage_options.get("background"):
            self.thread = threading.Thread(target=self.attempt, args=(copied(checkpoint), target), name="checkpoint")
            self.thread.start()
        else:
            self.attempt(checkpoint, target)
            if target.name in self.held:
                self.held[target.name] = target, copied(checkpoint)  # the training goes on changing its own
            self.raise_error()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self.thread:
            self.thread.join()
            self.thread = None
        self.raise_error()

    def teardown(self) -> None:
        """Lightning calls this at the end."""
        self.wait()

    def attempt(self, checkpoint: dict[str, Any], target: Path) -> None:
        """Write `checkpoint`, and before it what is still to be written."""
        self.held[target.name] = target, checkpoint
        self.retry()

    def retry(self) -> None:
        """Write what is held, the best weights first; what can't be written stays held, and says so."""
        for name in sorted(self.held, key=lambda name: name == LAST):
            target, checkpoint = self.held[name]
            try:
                write(checkpoint, target, self.keep if name == LAST else 0)
                del self.held[name]
            except (OSError, RuntimeError) as error:
                self.error = error
                self.warn(error, target)
                return

    def warn(self, error: Exception, target: Path) -> None:
        free = shutil.disk_usage(target.parent).free / 2**20 if target.parent.is_dir() else 0
        there = "the one before is safe" if target.is_file() else "there is none yet"
        if target.name == BEST:
            there += f", and {LAST} waits for it"
        log.warning(
            f"{target} could not be written ({cause(error)}; {free:.0f} MB free): {there}. "
            f"{remedy(error)}{'' if self.stop else '; the run goes on'}"
        )

    def raise_error(self) -> None:
        error, self.error = self.error, None
        if error and self.stop:
            begun = any(candidates(target.parent) for target, _ in self.held.values())
            raise RunError(
                f"a checkpoint could not be written ({cause(error)}) and callbacks.saving.on_failure=stop: make room, "
                f"then {'resume' if begun else 'start anew: there is none'}"
            )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What is at `path`, or is to be written there."""
        if Path(path).name in self.held:
            return dict(self.held[Path(path).name][1])
        try:
            return safe_load(Path(path))
        except InputError as error:
            raise RunError(f"{path} can't be read any more ({error})") from error


def remedy(error: Exception) -> str:
    """What to do about a file that can't be written."""
    closed = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return "Let the folder be written to" if closed else "Make room, or let the folder be written to"


def cause(error: Exception) -> str:
    """Why a write failed; torch's writer hides what the disk said behind a position in the file."""
    return first_line(error) if isinstance(error, OSError) else "the disk took only a part of it"


def write(checkpoint: dict[str, Any], target: Path, keep: int) -> None:
    """Put `checkpoint` at `target` whole; the file that was there becomes the youngest of `keep` earlier ones."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        prove(part)
        shift(target, keep)
        os.replace(part, target)
        sync_folder(target.parent)
    finally:
        if part.exists():
            part.unlink()


def prove(path: Path) -> None:
    """Read a file as it lies on disk and compare every checksum in it.

    Raises:
        OSError: If what is there is not what was written.
    """
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise OSError(f"{path} was written, but {broken} in it reads otherwise")


def shift(target: Path, keep: int) -> None:
    """Move every earlier checkpoint on by one and let the current one be the first of them, without ever lacking it."""
    if not keep or not target.is_file():
        return
    for number in range(keep, 1, -1):
        younger = previous(target.parent, number - 1)
        if younger.is_file():
            os.replace(younger, previous(target.parent, number))
    twin = target.with_name(f".{target.name}.twin")
    twin.unlink(missing_ok=True)
    try:
        os.link(target, twin)
    except OSError:  # a file system without hard links
        shutil.copy2(target, twin)
    os.replace(twin, previous(target.parent, 1))


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for pattern in (".*.part", ".*.twin"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let a rename outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copied(value: Any) -> Any:
    """Plain values with tensors copied to the processor's memory, so that the training can go on changing its own."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, copied(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(copied(inner) for inner in value)
    return value
