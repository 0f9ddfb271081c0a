"""What this machine has to give."""

from __future__ import annotations

import os


def free_memory() -> int:
    """Bytes of memory that can be had now."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 30
