"""The log of a command: to the console, and with times and levels to a file."""

from __future__ import annotations

import logging
from pathlib import Path

from foundation.storage.safe_load import printable

log = logging.getLogger("resmet")


class PrintableFormatter(logging.Formatter):
    """Escapes control characters: names of files and classes come from elsewhere and could steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def start_log(path: Path) -> None:
    """Sends the log to the console and to the file `path`.

    Raises:
        OSError: If the file can't be opened.
    """
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # a line that does not fit on a full disk is no reason for a traceback
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    console, file = logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")
    console.setFormatter(PrintableFormatter("%(message)s"))
    file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(console)
    log.addHandler(file)
