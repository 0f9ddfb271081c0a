"""Chooses num_workers and prefetch_factor, and checks that shared memory is large enough for the batches."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.hardware import cores
from foundation.structures import pluralize

MAX_WORKERS = 8
"""Largest number of workers by default: more seldom help, and each takes memory of its own."""

STACKING_WORKERS = 2
LARGE_BATCH = 1 << 22
"""Bytes of a batch from which stacking it in the main process takes longer than receiving it from a worker."""

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_SHARE = 0.8
"""Fraction of the free shared memory that batches may take; the rest is for other programs."""

FILES_PER_BATCH = 8
"""Largest number of file descriptors that a batch in transfer takes, and that the pipes of a worker take."""


@dataclass(frozen=True)
class LoaderOptions:
    """Options of a DataLoader under torch's names, and the approximate bytes of a batch, 0 if unknown."""

    num_workers: int = 0
    prefetch_factor: int = 2
    pin_memory: bool = False
    persistent_workers: bool = True
    batch_bytes: int = 0


def default_num_workers(in_memory: bool, batched: bool, gpu: bool, batch_bytes: int, concurrent_loaders: int) -> int:
    """Returns the number of workers to use if none is configured.

    Items in memory that are transformed by the batch take microseconds each: transferring them from a worker would take longer. On a CPU
    the step uses all cores, so that workers would not load in advance; decoding uses as many workers as there are cores, since one
    process can't use several. A GPU leaves the cores idle: workers do what is done per item, and stack large batches.

    `batched` is whether random transforms are applied to whole batches, `concurrent_loaders` the number of DataLoaders that run on this
    machine at the same time.
    """
    per_loader = max(1, min(MAX_WORKERS, cores() // concurrent_loaders))
    if not in_memory or (gpu and not batched):
        return per_loader
    return min(STACKING_WORKERS, per_loader) if gpu and batch_bytes > LARGE_BATCH else 0


def free_shared_memory() -> int | None:
    """Returns the free bytes of shared memory, or None if no file system limits it."""
    try:
        status = os.statvfs(SHARED_MEMORY)
        return status.f_bavail * status.f_frsize
    except OSError:
        return None


def fit_shared_memory(options: LoaderOptions, concurrent_loaders: int) -> tuple[LoaderOptions, str]:
    """Reduces workers and prefetching to what shared memory has room for; returns a note, "" if nothing is reduced.

    Batches are transferred through /dev/shm, which has 64 MB in a container by default. A worker that finds it full dies of a bus error,
    or its batch never arrives. Workers of validation load when those of training are idle.
    """
    free = free_shared_memory()
    if free is None or not options.batch_bytes:
        return options, ""
    room = int(free * SHARED_MEMORY_SHARE / concurrent_loaders) // options.batch_bytes - 1  # one batch is in use
    if options.num_workers * options.prefetch_factor <= room:
        return options, ""
    reduced = replace(options, num_workers=max(0, min(options.num_workers, room)), prefetch_factor=1)
    workers = pluralize(reduced.num_workers, "worker")
    return reduced, (
        f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free, too little for {pluralize(options.num_workers, 'worker')} with batches of "
        f"{options.batch_bytes / 1e6:.1f} MB: using {f'{workers} with prefetch_factor=1' if reduced.num_workers else 'no worker'} "
        "(docker run --shm-size=8g gives more)"
    )


def raise_file_limit(options: LoaderOptions) -> None:
    """Raises this process's limit of open files to what the workers' batches need, if the system allows it."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    need = 256 + FILES_PER_BATCH * options.num_workers * (options.prefetch_factor + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        most = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
