"""Downloads: retried after transient failures, resumed where they were cut, never more bytes than promised.

pooch is not used: it starts a cut download again, stores whatever a server sends before it compares checksums, and can't read object stores.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, TypeVar
from urllib.error import HTTPError

from datamodules.shards.remote import Remote
from foundation.structures import InputError, first_line, pluralize

CHUNK = 1 << 18
BACKOFF, MAX_BACKOFF = 0.5, 16.0
"""Seconds before the first retry, doubled before every further one, and the most."""

TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


def read_small(source: Path | Remote, name: str, limit: int, retries: int) -> bytes:
    """Returns the content of a file of at most `limit` bytes.

    Raises:
        InputError: If it is larger, or can't be read.
    """
    if isinstance(source, Path) and not (source / name).is_file():
        raise InputError("shards.missing_manifest", f"{source} has no {name}: give the folder that pack.py made")
    place = str(source / name) if isinstance(source, Path) else source.location(name)

    def attempt() -> bytes:
        with (source / name).open("rb") if isinstance(source, Path) else source.open(name, 0)[0] as stream:
            content = stream.read(limit + 1)
            if len(content) > limit:
                raise too_large(place, limit)
            return content + stream.read()  # raises IncompleteRead if the connection was cut

    return retry(attempt, place, retries)


def too_large(place: str, limit: int) -> InputError:
    text = f"{place} is larger than the {limit} bytes that were promised: pack and upload it again"
    return InputError("shards.too_large", text)


def download(remote: Remote, name: str, size: int, sha256: str, into: IO[bytes], retries: int) -> None:
    """Downloads a file of `size` bytes into an empty one; a cut download is resumed, if the server supports ranges.

    Raises:
        InputError: If it is larger than promised, its checksum differs, or it can't be read after `retries` more attempts.
        OSError: If the local disk is full.
    """
    place = remote.location(name)

    def attempt() -> None:
        stream, start = remote.open(name, into.seek(0, os.SEEK_END))
        with stream:
            into.truncate(into.seek(start))
            while chunk := stream.read(CHUNK):
                into.write(chunk)
                if into.tell() > size:
                    raise too_large(place, size)
        if into.tell() < size:
            raise OSError(f"{into.tell()} of {size} bytes received")
        received = checksum(into)
        if received == sha256:
            return
        into.truncate(0)
        if start:  # the file may have been replaced in between
            raise OSError("the parts of a cut download do not match")
        text = f"{place} has the checksum {received[:12]}..., the manifest {sha256[:12]}...: upload it again"
        raise InputError("shards.wrong_checksum", text)

    retry(attempt, place, retries)


def checksum(file: IO[bytes]) -> str:
    """Returns the SHA-256 of a file's whole content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def retry(attempt: Callable[[], T], place: str, retries: int) -> T:
    """Returns the result of `attempt`, which is repeated up to `retries` times after transient failures.

    Raises:
        InputError: If the failure is permanent, or persists.
        OSError: If the local disk is full.
    """
    delay, tried = BACKOFF, 0
    while True:
        try:
            return attempt()
        except InputError:
            raise
        except Exception as error:  # the packages of object stores have types of their own
            tried += 1
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            if tried > retries or not is_transient(error):
                cause = f"{pluralize(tried, 'attempt')}: {first_line(error)}"
                raise InputError("shards.unreachable", f"{place} can't be read ({cause})") from error
            time.sleep(min(MAX_BACKOFF, delay) * random.uniform(0.7, 1.3))
            delay *= 2


def is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in TRANSIENT_STATUS
    permanent = isinstance(error, (FileNotFoundError, PermissionError))
    return isinstance(error, (OSError, HTTPException)) and not permanent
