"""How much memory a run takes, and whether an error says that there is none left."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory_mb() -> float:
    """The most memory that this process held, on the card where there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there is no memory left, on a card or here."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
