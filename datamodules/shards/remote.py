"""Sources of shards: a folder, a web server, an object store. They provide bytes, never commands.

The scheme of ``data.root`` decides, and only listed schemes are opened: no ``pipe:``, no chained file systems. A manifest names files
in its own folder only, so the content that is read never chooses how it is read.
"""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Protocol
from urllib import request
from urllib.error import HTTPError

from foundation.structures import InputError, first_line

STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "oci", "webhdfs", "memory")
"""Schemes that fsspec opens; most of them need a package of their own."""


class Remote(Protocol):
    """A folder on another machine."""

    def location(self, name: str) -> str:
        """Returns the address of a file, for messages."""

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        """Returns a stream and the byte that it starts at: `start`, or 0 if the server does not support ranges."""


class Web:
    """Files below an http or https address; a connection without an answer is closed after `timeout` seconds."""

    def __init__(self, root: str, timeout: float) -> None:
        self.root, self.timeout = root.rstrip("/"), timeout

    def location(self, name: str) -> str:
        return f"{self.root}/{name}"

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        query = request.Request(self.location(name), headers={"Range": f"bytes={start}-"} if start else {})
        try:
            response = self.opener().open(query, timeout=self.timeout)
        except HTTPError as error:
            error.close()  # it is a connection, too
            raise
        if response.status != 206:
            return response, 0
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise HTTPException("the server sent another range than requested")
        return response, start

    def opener(self) -> request.OpenerDirector:
        """Returns an opener for HTTP and HTTPS, and for nothing else that a redirect could lead to."""
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

    Raises:
        InputError: If the package for its scheme is not installed, or the store can't be opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.filesystem()  # a missing package is reported at once

    def filesystem(self) -> Any:
        """Returns fsspec's file system of this process: some do not survive a fork."""
        import fsspec  # slow to import

        try:
            return fsspec.filesystem(self.root.partition("://")[0])
        except Exception as error:
            missing = isinstance(error, ImportError)
            code = "shards.missing_package" if missing else "shards.unreachable"
            remedy = "install the package" if missing else "check address and account"
            raise InputError(code, f"data.root={self.root} can't be opened ({first_line(error)}): {remedy}") from error

    def location(self, name: str) -> str:
        return f"{self.root}/{name}"

    def open(self, name: str, start: int) -> tuple[IO[bytes], int]:
        stream = self.filesystem().open(self.location(name), "rb")
        stream.seek(start)
        return stream, start


def find_source(root: str, timeout: float) -> Path | Remote:
    """Returns the folder of a set of shards, local or remote.

    Raises:
        InputError: If it is not a folder, or its scheme is not on the list.
    """
    scheme, separator, rest = root.partition("://")
    allowed = ("file", "http", "https", *STORES)
    if "::" in root or root.startswith("pipe:") or (separator and scheme not in allowed):
        text = f"data.root={root} is not opened: give a folder or one address that starts with {', '.join(allowed)}"
        raise InputError("shards.scheme", text)
    if separator and scheme != "file":
        return Store(root) if scheme in STORES else Web(root, timeout)
    folder = Path(rest if separator else root).expanduser()
    if not folder.is_dir():
        remedy = "give the one that pack.py made, or its address"
        raise InputError("data.missing_root", f"data.root={root}: there is no such folder: {remedy}")
    return folder
