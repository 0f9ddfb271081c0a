"""Atomic writes of files and folders: under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

log = logging.getLogger("resmet")

PART = ".part"
"""Suffix of a file that is being written. A process that is killed leaves it behind; nothing reads it."""


@contextmanager
def atomic_open(path: Path, sync_folder: bool = False) -> Iterator[IO[bytes]]:
    """Opens a temporary binary file that replaces `path` when the block ends without an error.

    Readers see the old content or the new one, never a part of it. The temporary name is unique, so several processes may write the same file.
    With `sync_folder`, the folder is flushed, too, so that the rename survives a power failure.

    Raises:
        OSError: If it can't be written. The temporary file is removed and `path` is unchanged.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with part.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if sync_folder:
        with suppress(OSError):  # not on Windows
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, see `atomic_open`."""
    with atomic_open(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically as UTF-8, see `atomic_open`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a plain value to `path` atomically as indented JSON, see `atomic_open`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text_or_warn(path: Path, text: str) -> None:
    """`write_text` for a file that is written again later: a full disk is logged, and the run continues."""
    try:
        write_text(path, text)
    except OSError as error:
        log.warning(f"{path} could not be written ({error.strerror}): the run continues")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that is renamed to `path` (absent or empty) when the block ends without an error.

    Raises:
        OSError: If it can't be written. The temporary folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(PART, f".{path.name}.", path.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp gives 0o700
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
