"""Who loads: how many processes, how far ahead, and whether their batches fit through shared memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.base.dataset import ItemDataset, size_of
from foundation.hardware import cores
from foundation.structures import InputError, pluralize

MOST = 8
"""Processes that load by default: more seldom help, and each takes memory of its own."""

FEW = 2
HEAVY = 1 << 22
"""Bytes of a batch from which stacking it costs a GPU's program more than fetching it from another process."""

SHARED = Path("/dev/shm")
PORTION = 0.8
"""Of the free shared memory, what batches may take; other programs want some, too."""

FILES = 8
"""Open files that a batch on its way and a worker's pipes take, each, at most."""


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are loaded.

    Attributes:
        workers: Processes that load; 0 loads here.
        ahead: Batches that each of them is ahead.
        pin: Whether batches are put where a GPU copies from without a stop.
        stays: Whether the workers wait for the next epoch.
        batch: Bytes of a batch, about.
    """

    num_workers: int = 0
    ahead: int = 2
    pin: bool = False
    stays: bool = True
    batch: int = 0

    @property
    def starved(self) -> bool:
        """Whether shared memory has no room for another batch."""
        free = free_shared()
        return bool(self.num_workers) and free is not None and free < self.batch


def default_num_workers(whole: bool, by_batch: bool, gpu: bool, batch: int, concurrent_loaders: int) -> int:
    """Processes that load where none were asked for.

    Items in memory that are changed by batch cost microseconds each: another process would take longer to hand them over. On a CPU the
    step takes all cores, so that nobody is idle to load ahead; what has to be decoded is done by as many processes as there are cores,
    since one can't use several. A GPU leaves the cores idle: they do what is left to do item by item, and stack large batches.

    Args:
        whole: Whether all items are in memory.
        by_batch: Whether items are changed by batch.
        gpu: Whether the step runs on one.
        batch: Bytes of a batch.
        sharers: Loaders on this machine that are at work at the same time.
    """
    share = max(1, min(MOST, cores() // concurrent_loaders))
    if not whole:
        return share
    if gpu and not by_batch:
        return share
    return min(FEW, share) if gpu and batch > HEAVY else 0


def batch_bytes(items: ItemDataset, batch_size: int) -> int:
    """About what a batch takes, by a few items where they are of many sizes."""
    count = 1 if items.data.spec.size else 4
    places = {len(items) * i // count for i in range(count)} if len(items) else set()
    sizes = []
    for place in places:
        try:
            sizes.append(size_of(items[0, place][:2], items.kind))
        except InputError:  # it is left out, or stops the run, when its turn comes
            continue
    return max(sizes, default=0) * min(batch_size, len(items))


def free_shared() -> int | None:
    """Bytes of shared memory that can be had; None where no folder limits it."""
    try:
        found = os.statvfs(SHARED)
        return found.f_bavail * found.f_frsize
    except OSError:
        return None


def fit_shared_memory(crew: LoaderOptions, concurrent_loaders: int) -> tuple[LoaderOptions, str]:
    """As much of a crew as shared memory holds batches for, and what is to be said of it.

    Batches come through /dev/shm, of which a container has 64 MB unless more is asked for; a worker that finds it full dies of a bus
    error, or its batch never comes. `sharers` loaders use it at the same time; validation's come when training's are empty.
    """
    free = free_shared()
    if free is None or not crew.batch:
        return crew, ""
    room = int(free * PORTION / concurrent_loaders) // crew.batch - 1  # without the batch in use
    if crew.num_workers * crew.ahead <= room:
        return crew, ""
    fits = replace(crew, num_workers=max(0, min(crew.num_workers, room)), ahead=1)
    instead = f"{pluralize(fits.num_workers, 'worker')}, a batch ahead each" if fits.num_workers else "no worker"
    return fits, (
        f"{SHARED} has {free / 1e6:.0f} MB free, too little for {pluralize(crew.num_workers, 'worker')} with batches of "
        f"{crew.batch / 1e6:.1f} MB: {instead} (docker run --shm-size=8g gives more)"
    )


def raise_file_limit(crew: LoaderOptions) -> None:
    """Let this process open as many files as its workers' batches need, where the system lets it."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    need = 256 + FILES * crew.num_workers * (crew.ahead + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        most = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
