"""Bytes from afar: tried again after what may pass, gone on with where they were cut, never more than was promised."""

from __future__ import annotations

import errno
import hashlib
import http.client
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError

from datamodules.shards.remote import Remote
from foundation.structures import InputError, first_line

PIECE = 1 << 20
SLOWEST = 16_384
"""Bytes a second below which a download is cut off and tried again."""

PAUSE = 0.5
"""Seconds before the second try; twice as many before the third, and so on."""

TRANSIENT = (URLError, http.client.HTTPException, OSError)
PASSING = {408, 425, 429, 500, 502, 503, 504}


class ShardError(InputError):
    """A file that is not to be had, or not what it should be. Trying again does not help.

    What a loading process raises comes to the main process inside a trace; the message alone is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rsplit("downloading.ShardError: ", 1)[-1].strip())


def small(source: Path | Remote, name: str, limit: int, retries: int) -> bytes:
    """A file of at most `limit` bytes.

    Raises:
        ShardError: If it is larger, or can't be had.
    """
    if isinstance(source, Path):
        if not (source / name).is_file():
            raise ShardError(f"{source} has no {name}: give the folder that pack.py made")
        if (source / name).stat().st_size > limit:
            raise ShardError(f"{source / name} is larger than {limit} bytes: that is no manifest of ours")
        return (source / name).read_bytes()
    remote = source

    def attempt() -> bytes:
        with remote.open(name, 0)[0] as stream:
            content = b"".join(pieces(stream, limit + 1))
            promised = getattr(stream, "headers", {}).get("Content-Length")
        if len(content) > limit:
            raise ShardError(f"{remote.place(name)} is larger than {limit} bytes: that is no manifest of ours")
        if promised and promised.isdecimal() and len(content) < int(promised):
            raise OSError(f"{len(content)} of {promised} bytes came")
        return content

    return patient(attempt, remote.place(name), retries)


def download(remote: Remote, name: str, size: int, sha256: str, into: IO[bytes], retries: int) -> None:
    """Write a file of `size` bytes; a cut download goes on where it was cut, where the other side can.

    Raises:
        ShardError: If more comes than was promised, the checksum differs, or nothing comes after `retries` more tries.
    """
    whole = Partial(into, size)

    def attempt() -> None:
        whole.take(remote, name)
        if whole.digest.hexdigest() == sha256:
            return
        resumed, found = whole.resumed, whole.digest.hexdigest()
        whole.restart()
        if resumed:  # it may have been exchanged in between
            raise OSError("the parts of a cut download don't fit together")
        raise ShardError(
            f"{remote.place(name)} has the checksum {found[:12]}..., the manifest says {sha256[:12]}...: upload it again"
        )

    patient(attempt, remote.place(name), retries)


class Partial:
    """What has come so far of a file of `size` bytes."""

    def __init__(self, into: IO[bytes], size: int) -> None:
        self.into, self.size = into, size
        self.restart()

    def restart(self) -> None:
        self.into.seek(0)
        self.into.truncate()
        self.got, self.resumed, self.digest = 0, False, hashlib.sha256()

    def take(self, remote: Remote, name: str) -> None:
        stream, start = remote.open(name, self.got)
        with stream:
            if start != self.got:
                self.restart()
            self.resumed = self.got > 0
            for piece in pieces(stream, self.size - self.got + 1):
                self.got += len(piece)
                if self.got > self.size:
                    raise ShardError(
                        f"{remote.place(name)} is larger than the {self.size} bytes of the manifest: upload it again"
                    )
                self.digest.update(piece)
                self.into.write(piece)
        if self.got < self.size:
            raise OSError(f"{self.got} of {self.size} bytes came")


def pieces(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """At most `limit` bytes. Raises TimeoutError where they come slower than `SLOWEST`, some seconds' grace given."""
    read = getattr(stream, "read1", stream.read)
    began, got = time.monotonic(), 0
    while got < limit and (piece := read(min(PIECE, limit - got))):
        got += len(piece)
        yield piece
        if time.monotonic() - began > 10 + got / SLOWEST:
            raise TimeoutError(f"only {got} bytes in {time.monotonic() - began:.0f} s")


def patient(attempt: Callable[[], Any], place: str, retries: int) -> Any:
    """`attempt`, tried again after what may pass.

    Raises:
        ShardError: If it does not pass.
    """
    for left in range(retries, -1, -1):
        try:
            return attempt()
        except InputError:
            raise
        except TRANSIENT as error:
            if isinstance(error, HTTPError) and error.code not in PASSING:
                short = " (it is shorter than the manifest says)" if error.code == 416 else ""
                raise ShardError(
                    f"{place} can't be had: the server answers {error.code} {error.reason}{short}"
                ) from error
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise  # of the disk here
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise ShardError(f"{place} can't be had ({first_line(error)})") from error
            if not left:
                raise ShardError(f"{place} can't be had after {retries + 1} tries ({first_line(error)})") from error
            time.sleep(min(16.0, PAUSE * 2 ** (retries - left)) * random.uniform(0.7, 1.3))
        except Exception as error:  # a store's package has kinds of its own
            raise ShardError(f"{place} can't be had ({type(error).__name__}: {first_line(error)})") from error
    raise AssertionError("unreachable")
