"""Checkpoints that are written whole or not at all, and verified before they replace the one before."""

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

from foundation.storage.atomic import PART, atomic_open
from foundation.structures import InputError, RunError, first_line
from resmet.assembly import read_checkpoint
from resmet.checkpoints.layout import LAST, previous

LINK = ".link"

log = logging.getLogger("resmet")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a file beside the target, syncs it, verifies its checksums, then renames it: a full disk or a kill leaves the old file.

    Lightning's own plugin writes through the system's temporary folder and copies, which can destroy both. A checkpoint that can't
    be written is logged and recorded in `failed`; the run continues, and the next one is written again.

    Args:
        keep: Number of earlier versions of ``last.ckpt``, as ``previous-1.ckpt`` (the most recent), ``previous-2.ckpt`` ...

    Attributes:
        failed: {file name: cause} of the files whose most recent write failed. Complete after `wait`.
    """

    def __init__(self, keep: int = 1) -> None:
        super().__init__()
        self.keep = keep
        self.failed: dict[str, str] = {}
        self.thread: threading.Thread | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes `checkpoint` to `path`; with ``storage_options={"background": True}`` a copy of it, in a thread."""
        self.wait()
        if storage_options and storage_options.get("background"):
            arguments = (copy_to_cpu(checkpoint), Path(path))
            self.thread = threading.Thread(target=self.write, args=arguments, name="checkpoint")
            self.thread.start()
        else:
            self.write(checkpoint, Path(path))

    def wait(self) -> None:
        """Waits until nothing is being written; Lightning calls this at the end of every stage."""
        if self.thread:
            self.thread.join()
            self.thread = None

    teardown = wait

    def write(self, checkpoint: dict[str, Any], target: Path) -> None:
        try:
            write_checkpoint(checkpoint, target, self.keep if target.name == LAST else 0)
            self.failed.pop(target.name, None)
        except (OSError, RuntimeError) as error:
            # torch's writer reports a full disk as a RuntimeError about a position in the file
            cause = first_line(error) if isinstance(error, OSError) else "the disk took only a part of it"
            self.failed[target.name] = cause
            free = shutil.disk_usage(target.parent).free / 2**20 if target.parent.is_dir() else 0
            there = "the one before is safe" if target.is_file() else "there is none yet"
            denied = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
            remedy = "Make the folder writable" if denied else "Free some space, or make the folder writable"
            log.warning(f"{target} could not be written ({cause}; {free:.0f} MB free): {there}. {remedy}")

    def skip(self, target: Path, cause: str) -> None:
        """Records that a checkpoint was not written."""
        self.failed[target.name] = cause
        log.warning(f"{target} is not written, since {cause}; the next one is")

    def has_failed(self, name: str) -> bool:
        """Whether the most recent write of the file `name` failed; waits for its end."""
        self.wait()
        return name in self.failed

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Returns the checkpoint at `path` with present names."""
        try:
            return read_checkpoint(path)
        except InputError as error:
            raise RunError("checkpoint.unreadable", str(error)) from error


def write_checkpoint(checkpoint: dict[str, Any], target: Path, keep: int = 0) -> None:
    """Writes `checkpoint` to `target` atomically; the file that was there becomes the most recent of `keep` previous ones."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(target, sync_folder=True) as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            if broken := archive.testzip():
                raise OSError(f"{target} was written, but {broken} in it has another checksum")
        rotate(target, keep)


def rotate(target: Path, keep: int) -> None:
    """Renames every previous checkpoint to the next number and links `target` as the first, so that `target` is never absent."""
    if not keep or not target.is_file():
        return
    for number in range(keep, 1, -1):
        newer = previous(target.parent, number - 1)
        if newer.is_file():
            os.replace(newer, previous(target.parent, number))
    link = target.with_name(f".{target.name}{LINK}")
    link.unlink(missing_ok=True)
    try:
        os.link(target, link)
    except OSError:  # a file system without hard links
        shutil.copy2(target, link)
    os.replace(link, previous(target.parent, 1))


def remove_partial(folder: Path) -> None:
    """Removes the temporary files that a killed process left in ``checkpoints/``."""
    for suffix in (PART, LINK):
        for path in folder.glob(f".*{suffix}"):
            path.unlink(missing_ok=True)


def copy_to_cpu(value: Any) -> Any:
    """Returns plain values with all tensors copied to CPU memory, so that training can change its own meanwhile."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, copy_to_cpu(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(copy_to_cpu(inner) for inner in value)
    return value
