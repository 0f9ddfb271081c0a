"""Durations as people write them, and the clock of a run. Nothing here imports torch."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from foundation.structures import InputError

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: object, key: str) -> float:
    """Returns ``90s``, ``10m`` or ``2h`` in seconds.

    Raises:
        InputError: For anything else; the message names `key`.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(text).strip())
    if not match or not float(match[1]):
        raise InputError("config.invalid_duration", f"{key}={text} is not a duration: write 90s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def format_seconds(seconds: float) -> str:
    """Returns a duration as ``0:41`` or ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Clock:
    """The clock of a run; tests inject another."""

    WINDOW = 5.0
    """Seconds, running or waiting, after which the contention is measured again."""

    def __init__(self) -> None:
        self.measured, self.contention = (0.0, 0.0), 1.0

    def now(self) -> float:
        """Returns seconds of a monotonic clock."""
        return time.monotonic()

    def process_age(self) -> float:
        """Returns the seconds since this process started; 0 where the system does not report it."""
        try:
            ticks = float(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
            return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return 0.0

    def cpu_contention(self) -> float:
        """Returns the slowdown of this thread compared with an idle machine, over the last seconds; at least 1.

        Linux counts for every thread how long it ran and how long it waited for a processor. Elsewhere this is 1.
        """
        try:
            run, wait = (int(text) / 1e9 for text in Path("/proc/thread-self/schedstat").read_text().split()[:2])
        except (OSError, ValueError):
            return self.contention
        ran, waited = run - self.measured[0], wait - self.measured[1]
        if ran > 0 and ran + waited > self.WINDOW:
            self.measured, self.contention = (run, wait), (ran + waited) / ran
        return self.contention
