"""Spans of time as people write them, and how long this process has been running. Nothing here imports torch."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from foundation.structures import InputError

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: object, key: str, what: str) -> float:
    """``90s``, ``10m`` or ``2h`` in seconds.

    Raises:
        InputError: If it is none of these, naming `key` and `what` it should be.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(text).strip())
    if not match or not float(match[1]):
        raise InputError(f"{key}={text} is no {what}: say 90s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def clock(span: float) -> str:
    """Seconds as ``0:41`` or ``1:02:03``."""
    whole = max(0, round(span))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def since_start() -> float:
    """Seconds since this process began; 0 where the system does not say."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


class Crowding:
    """How many times longer than alone this thread takes, because others want the same processors.

    Linux counts for every thread how long it ran and how long it waited for its turn; elsewhere nothing is known, and 1 is said.
    """

    WINDOW = 5.0
    """Seconds, running or waiting, after which the figure is taken anew."""

    def __init__(self) -> None:
        self.before = (0.0, 0.0)
        self.factor = 1.0

    def now(self) -> float:
        """At least 1; over the last seconds, at first since the thread began."""
        run, wait = scheduled()
        ran, waited = run - self.before[0], wait - self.before[1]
        if ran > 0 and ran + waited > self.WINDOW:
            self.before, self.factor = (run, wait), (ran + waited) / ran
        return self.factor


def scheduled() -> tuple[float, float]:
    """Seconds that this thread ran and that it waited for a processor."""
    try:
        run, wait, *_ = Path("/proc/thread-self/schedstat").read_text().split()
        return int(run) / 1e9, int(wait) / 1e9
    except (OSError, ValueError):
        return 0.0, 0.0
