"""Memory, cores and fast precisions of this machine. torch is imported only by the functions that need it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory() -> int:
    """Returns the bytes of memory that can be allocated now, within the limit of this process's control group, if it has one."""
    return max(0, min(available_memory(), *(limit - used for limit, used in cgroup_limits())))


def available_memory() -> int:
    """Returns the bytes that the system reports as available: free, or held by caches that it can drop."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 30


def cgroup_limits() -> list[tuple[int, int]]:
    """Returns (limit, used) in bytes of the control groups that a container or a cluster put this process in, and one without a limit."""
    limits = [(1 << 62, 0)]
    for folder in cgroup_folders("memory"):
        for names in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):
            with suppress(OSError, ValueError):  # no such kind of group, or ``max``
                limit, used = (int((folder / f"memory.{name}").read_text()) for name in names)
                limits.append((limit, used))
    return limits


def cgroup_folders(controller: str) -> list[Path]:
    """Returns the folders of this process's control group and of its parents, of version 2 and of `controller` in version 1.

    Source: cgroups(7). A container may not see its path, and has its own limits in the first folders.
    """
    folders = [CGROUPS, CGROUPS / controller]
    with suppress(OSError, ValueError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                base, group = CGROUPS / (controllers and controller), Path(name.strip("/"))
                folders += [base / part for part in (group, *group.parents)]
    return folders


def cores() -> int:
    """Returns the cores that this process may use: those in its affinity mask, limited by the CPU quota of its container or job."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for folder in cgroup_folders("cpu"):
        with suppress(OSError, ValueError):  # no such group, or ``max``
            quota, period = (folder / "cpu.max").read_text().split()
            limits.append(round(int(quota) / int(period)))
    return max(1, min(limits))


def local_world_size() -> int:
    """Returns the number of processes of this run on this machine, as far as their launcher reports it."""
    names = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "WORLD_SIZE" if "LOCAL_RANK" in os.environ else "")
    return next((int(text) for name in names if (text := os.environ.get(name, "")).isdigit() and int(text)), 1)


def user_cache_dir() -> Path:
    """Returns the user's folder for caches. Source: XDG Base Directory Specification 0.8."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resmet"


def peak_memory_mb() -> float:
    """Returns the most memory that this process has held, on the GPU where there is one."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def out_of_memory(error: BaseException) -> bool:
    """Returns whether `error` is an out-of-memory error, of a GPU or of this machine."""
    import torch

    words = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def fast_precision(accelerator: str) -> str:
    """Returns ``bf16-mixed`` where the hardware computes it fast, else ``32-true``."""
    import torch

    fast = False
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        with suppress(OSError):
            flags = Path("/proc/cpuinfo").read_text()
            fast = "avx512_bf16" in flags or "amx_bf16" in flags
    return "bf16-mixed" if fast else "32-true"
