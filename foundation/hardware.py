"""What this machine has to give."""

from __future__ import annotations

import os
from pathlib import Path


def free_memory() -> int:
    """Bytes of memory that can be had now: what the system would hand out, within the limit of this process's group, if it has one."""
    return max(0, min(available(), *(limit - used for limit, used in group_limits())))


def available() -> int:
    """What the system calls available: free, or held by copies of files that can be dropped."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 30


def group_limits() -> list[tuple[int, int]]:
    """(limit, used) in bytes of the control group that a container or a cluster put this process in, and one without any."""
    found = [(1 << 62, 0)]
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            base = Path("/sys/fs/cgroup")
            found.append((int((base / most).read_text()), int((base / used).read_text())))
        except (OSError, ValueError):
            continue  # no such kind of group, or ``max``
    return found


def cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its container's share of time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(bound, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or "max"
        return bound


def local_world_size() -> int:
    """Processes of this run on this machine, as far as whoever started them says so."""
    names = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "WORLD_SIZE" if "LOCAL_RANK" in os.environ else "")
    return next((int(text) for name in names if (text := os.environ.get(name, "")).isdigit() and int(text)), 1)


def user_cache_dir() -> Path:
    """The user's folder for caches. Source: XDG Base Directory Specification 0.8."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resmet"
