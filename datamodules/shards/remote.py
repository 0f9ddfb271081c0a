"""Where shards lie: a folder, a web server, an object store. Bytes come from there, never commands.

The scheme of ``data.root`` decides, and only schemes on a list are opened: no ``pipe:``, no chain of file systems. A manifest can
name files beside it and nothing else, so what is read never chooses how it is read.
"""

from __future__ import annotations

import http.client
import importlib
import re
from pathlib import Path
from typing import IO, Any, Protocol
from urllib import request
from urllib.error import HTTPError

from foundation.structures import InputError, first_line

STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "oci", "webhdfs", "memory")
"""Schemes that fsspec opens; most of them need a package of their own."""


class Remote(Protocol):
    """How a file is opened from afar."""

    def place(self, name: str) -> str:
        """Where the file is, for messages."""

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        """A stream, and the byte that it starts at: `start`, or 0 where the other side can't start there."""


class Web:
    """Files below an http or https address.

    Args:
        root: The address of their folder.
        timeout: Seconds without an answer after which a connection is given up.
    """

    def __init__(self, root: str, timeout: float) -> None:
        self.root, self.timeout = root.rstrip("/"), timeout

    def place(self, name: str) -> str:
        return f"{self.root}/{name}"

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        asked = request.Request(self.place(name), headers={"Range": f"bytes={start}-"} if start else {})
        try:
            answer = self.opener().open(asked, timeout=self.timeout)
        except HTTPError as error:
            error.close()  # it is a connection, too
            raise
        matched = (
            re.match(rf"bytes {start}-", answer.headers.get("Content-Range", "")) if answer.status == 206 else None
        )
        if answer.status == 206 and not matched:
            raise http.client.HTTPException("the server sent another part than was asked for")
        return answer, start if matched else 0

    def opener(self) -> request.OpenerDirector:
        """HTTP, HTTPS and nothing that a redirection could lead to besides."""
        director = request.OpenerDirector()
        for handler in (
            request.ProxyHandler,
            request.UnknownHandler,
            request.HTTPHandler,
            request.HTTPSHandler,
            request.HTTPDefaultErrorHandler,
            request.HTTPRedirectHandler,
            request.HTTPErrorProcessor,
        ):
            director.add_handler(handler())
        return director


class Store:
    """Files in an object store, through fsspec.

    Args:
        root: The address of their folder.

    Raises:
        InputError: If the package for its scheme is not installed.
    """

    def __init__(self, root: str) -> None:
        self.root, self.scheme = root.rstrip("/"), root.partition("://")[0]
        self.files()  # a missing package is said at once

    def files(self) -> Any:
        """fsspec's file system, of this process: some don't live through a fork."""
        fsspec = importlib.import_module("fsspec")
        try:
            return fsspec.filesystem(self.scheme)
        except ImportError as error:
            raise InputError(
                f"data.root={self.root}: {self.scheme}:// needs a package ({first_line(error)})"
            ) from error
        except Exception as error:
            raise InputError(
                f"data.root={self.root} can't be reached ({first_line(error)}): check address and account"
            ) from error

    def place(self, name: str) -> str:
        return f"{self.root}/{name}"

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        stream = self.files().open(self.place(name), "rb")
        stream.seek(start)
        return stream, start


def find_source(root: str, timeout: float) -> Path | Remote:
    """A folder here, or the door to one elsewhere.

    Raises:
        InputError: If it is no folder, or its scheme is not on the list.
    """
    scheme, mark, rest = root.partition("://")
    if "::" in root or root.startswith("pipe:"):
        raise InputError(f"data.root={root}: chains and commands are not opened: give a folder or one plain address")
    if scheme in ("http", "https") and mark:
        return Web(root, timeout)
    if scheme in STORES and mark:
        return Store(root)
    if mark and scheme != "file":
        raise InputError(
            f"data.root={root}: {scheme}:// is not opened; known are file, http, https, {', '.join(STORES)}"
        )
    folder = Path(rest if mark else root).expanduser()
    if not folder.is_dir():
        raise InputError(f"data.root={root}: there is no such folder: give the one that pack.py made, or its address")
    return folder
