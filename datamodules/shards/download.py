"""Downloads: retried after transient failures, resumed where they were cut, never more bytes than promised.

pooch is not used: it starts a cut download again, stores whatever a server sends before it compares checksums, and can't read object stores.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError, URLError

from datamodules.shards.remote import Remote
from foundation.structures import InputError, first_line

CHUNK = 1 << 20
SLOWEST = 16_384
"""Bytes per second below which a download is aborted and retried."""

GRACE = 10.0
"""Seconds that a download may be slower."""

BACKOFF = 0.5
"""Seconds before the first retry; twice as many before the second, and so on, up to `LONGEST_BACKOFF`."""

LONGEST_BACKOFF = 16.0
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


def read_small(source: Path | Remote, name: str, limit: int, retries: int) -> bytes:
    """Returns the content of a file of at most `limit` bytes.

    Raises:
        InputError: If it is larger, or can't be read.
    """
    if isinstance(source, Path):
        path = source / name
        if not path.is_file():
            raise InputError("shards.missing_manifest", f"{source} has no {name}: give the folder that pack.py made")
        if path.stat().st_size > limit:
            raise too_large(str(path), limit)
        return path.read_bytes()

    def attempt() -> bytes:
        with source.open(name, 0)[0] as stream:
            content = b"".join(read_chunks(stream, limit + 1))
            promised = getattr(stream, "headers", {}).get("Content-Length")
        if len(content) > limit:
            raise too_large(source.location(name), limit)
        if promised and promised.isdecimal() and len(content) < int(promised):
            raise OSError(f"{len(content)} of {promised} bytes received")
        return content

    return retry(attempt, source.location(name), retries)


def too_large(place: str, limit: int) -> InputError:
    return InputError(
        "shards.too_large", f"{place} is larger than the {limit} bytes that were promised: pack and upload it again"
    )


def download(remote: Remote, name: str, size: int, sha256: str, into: IO[bytes], retries: int) -> None:
    """Downloads a file of `size` bytes; a cut download is resumed, if the server supports ranges.

    Raises:
        InputError: If it is larger than promised, its checksum differs, or it can't be read after `retries` more attempts.
    """
    partial = Partial(into, size)

    def attempt() -> None:
        partial.receive(remote, name)
        received = partial.digest.hexdigest()
        if received == sha256:
            return
        resumed = partial.resumed
        partial.restart()
        if resumed:  # the file may have been replaced in between
            raise OSError("the parts of a cut download do not match")
        raise InputError(
            "shards.wrong_checksum",
            f"{remote.location(name)} has the checksum {received[:12]}..., the manifest {sha256[:12]}...: upload it again",
        )

    retry(attempt, remote.location(name), retries)


class Partial:
    """The received part of a file of `size` bytes."""

    def __init__(self, into: IO[bytes], size: int) -> None:
        self.into, self.size = into, size
        self.restart()

    def restart(self) -> None:
        self.into.seek(0)
        self.into.truncate()
        self.received, self.resumed, self.digest = 0, False, hashlib.sha256()

    def receive(self, remote: Remote, name: str) -> None:
        stream, start = remote.open(name, self.received)
        with stream:
            if start != self.received:
                self.restart()
            self.resumed = self.received > 0
            for chunk in read_chunks(stream, self.size - self.received + 1):
                self.received += len(chunk)
                if self.received > self.size:
                    raise too_large(remote.location(name), self.size)
                self.digest.update(chunk)
                self.into.write(chunk)
        if self.received < self.size:
            raise OSError(f"{self.received} of {self.size} bytes received")


def read_chunks(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yields at most `limit` bytes.

    Raises:
        TimeoutError: If they arrive more slowly than `SLOWEST`.
    """
    read = getattr(stream, "read1", stream.read)
    start, received = time.monotonic(), 0
    while received < limit and (chunk := read(min(CHUNK, limit - received))):
        received += len(chunk)
        yield chunk
        elapsed = time.monotonic() - start
        if elapsed > GRACE + received / SLOWEST:
            raise TimeoutError(f"only {received} bytes in {elapsed:.0f} s")


def retry(attempt: Callable[[], T], place: str, retries: int) -> T:
    """Returns the result of `attempt`, which is repeated after transient failures.

    Raises:
        InputError: If the failure is permanent, or persists.
        OSError: If the local disk is full.
    """
    for remaining in range(retries, -1, -1):
        try:
            return attempt()
        except InputError:
            raise
        except Exception as error:  # the packages of object stores have types of their own
            refuse_permanent(error, place)
            if not remaining:
                raise unreachable(place, f"{retries + 1} attempts: {first_line(error)}") from error
            time.sleep(min(LONGEST_BACKOFF, BACKOFF * 2 ** (retries - remaining)) * random.uniform(0.7, 1.3))
    raise AssertionError("unreachable")


def refuse_permanent(error: Exception, place: str) -> None:
    """Raises an error for a failure that another attempt would not change."""
    if isinstance(error, HTTPError):
        if error.code not in TRANSIENT_STATUS:
            short = ", it is shorter than the manifest says" if error.code == 416 else ""
            raise unreachable(place, f"HTTP {error.code} {error.reason}{short}") from error
    elif getattr(error, "errno", None) == errno.ENOSPC:
        raise error
    elif isinstance(error, (FileNotFoundError, PermissionError)):
        raise unreachable(place, first_line(error)) from error
    elif not isinstance(error, (URLError, http.client.HTTPException, OSError)):
        raise unreachable(place, f"{type(error).__name__}: {first_line(error)}") from error


def unreachable(place: str, cause: Any) -> InputError:
    return InputError("shards.unreachable", f"{place} can't be read ({cause})")
