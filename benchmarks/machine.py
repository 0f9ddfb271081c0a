"""What a figure depends on besides the program: processor, cores, versions."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "pillow")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe() -> dict[str, str]:
    """The processor's name, its cores, what of bf16 and wide vectors it has, and versions."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = set(text.split())
    found = {
        "processor": name[1] if name else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "flags": ", ".join(flag for flag in FLAGS if flag in flags) or "none of " + ", ".join(FLAGS),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load() -> float:
    """How many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
