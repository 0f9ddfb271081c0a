"""Batches of one split from worker processes; those that die or hang are replaced, and no batch is lost or comes twice."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from datamodules.base.dataset import ItemDataset
from datamodules.loading.collate import UNREADABLE, collate, collate_packed, unpack
from datamodules.loading.sampler import BatchSampler, SampleIndex
from datamodules.loading.workers import SHARED, LoaderOptions
from foundation.structures import RunError
from foundation.targets.kinds import TARGETS

POLL = 5.0
"""Seconds after which workers that bring nothing are looked at."""

PATIENCE = 300.0
"""Seconds without a batch after which living workers are taken to hang."""

REPLACEMENTS = 3
"""Times that the workers may be replaced within one epoch."""

BUS_ERROR = -getattr(signal, "SIGBUS", 7)
"""How a process ends that is given shared memory which is not there."""

log = logging.getLogger("resmet")


class ItemLoader:
    """What a DataLoader gives, in the same order whatever becomes of its workers.

    Nothing that an item's data set refers to may refer to its loader. In such a cycle the garbage collector runs torch's
    `_MultiProcessingDataLoaderIter.__del__`, which starts the feeder thread of every index queue that never had an item (there are
    fewer batches than workers), and then finalizes that queue's two connections, while the thread writes to them. A connection that
    is finalized closes its descriptor but keeps its number (multiprocessing.connection, `__del__`), so that the thread writes to, and
    closes, a descriptor that is no longer its own: EBADF, or another file's.

    Args:
        items: The items of a split.
        batches: Which of them make up which batch.
        crew: Who loads.
        lost: Told of every item that could not be read, when its batch comes.

    Raises:
        RunError: While iterating, where workers were replaced too often.
        InputError: While iterating, where an item can't be read any more and is not to be left out.
    """

    patience = PATIENCE

    def __init__(
        self, items: ItemDataset, batches: BatchSampler, crew: LoaderOptions, lost: Callable[[list[str]], None]
    ) -> None:
        self.dataset, self.batch_sampler, self.crew, self.lost = items, batches, crew, lost
        self.num_workers = crew.num_workers
        self.kind = TARGETS[items.data.spec.target]
        self.collate_fn = partial(collate, kind=self.kind)
        self.todo = Rest(batches)
        self.children: list[Any] = []
        self.inner: DataLoader | None = None

    @property
    def sampler(self) -> BatchSampler:
        """Where Lightning looks for `set_epoch`."""
        return self.batch_sampler

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        self.todo.place, replaced = 0, 0
        while True:
            try:
                yield from self.rest()
                return
            except RuntimeError as error:
                if not (self.num_workers and "DataLoader" in str(error)) or isinstance(error, RunError):
                    raise
                replaced += 1
                self.dismiss(error, replaced)
            finally:
                if not self.crew.stays:
                    self.close()

    def rest(self) -> Iterator[Any]:
        """The batches that were not given yet."""
        source = self.employ()
        while True:
            try:
                batch = self.await_batch(source)
            except StopIteration:
                return
            self.todo.place += 1
            batch = unpack(batch, self.kind) if self.num_workers else batch
            if missing := batch.pop(UNREADABLE, None):
                self.lost(missing)
            yield batch

    def employ(self) -> Iterator[Any]:
        """An iterator over what is left, with workers; those of the epoch before stay where they are well."""
        before = multiprocessing.active_children()
        if self.inner is None:
            self.inner = DataLoader(
                self.dataset,
                batch_sampler=self.todo,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                prefetch_factor=self.crew.ahead if self.num_workers else None,
                collate_fn=partial(collate_packed, kind=self.kind) if self.num_workers else self.collate_fn,
                pin_memory=self.crew.pin,
                timeout=POLL if self.num_workers else 0,
            )
        source = iter(self.inner)
        self.children += [child for child in multiprocessing.active_children() if child not in before]
        if self.num_workers and threading.current_thread() is threading.main_thread():
            # torch would raise wherever the program is when a worker dies, such as in the middle of a step
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return source

    def await_batch(self, source: Iterator[Any]) -> Any:
        """The next batch; living workers may take long."""
        began = time.monotonic()
        while True:
            try:
                return next(source)
            except RuntimeError as error:
                waits = "timed out" in str(error) and time.monotonic() - began < self.patience
                if not waits or self.crew.starved:
                    raise

    def close(self) -> None:
        """End all workers; they have nothing to lose."""
        for child in self.children:
            child.kill()
            child.join()
        self.inner, self.children = None, []

    def dismiss(self, error: RuntimeError, replaced: int) -> None:
        """End all workers; those of the next iterator are new."""
        awaited = next(iter(self.todo), [])
        names = ", ".join(self.dataset.items[index].name for _, index in awaited[:3])
        hung, starved = (
            "timed out" in str(error),
            self.crew.starved or any(w.exitcode == BUS_ERROR for w in self.children),
        )
        what = f"hang for {self.patience:.0f} s" if hung else str(error).strip().splitlines()[0].rstrip(". ")
        self.close()
        said = f"the workers that load data {'' if hung else 'died: '}{what} (batch {self.todo.place}: {names}, ...)"
        if starved:
            self.num_workers = 0
            log.warning(
                f"shared memory ({SHARED}) is full, so that no worker can hand a batch over: loading goes on without them "
                "(docker run --shm-size=8g gives more)"
            )
            return
        if replaced > REPLACEMENTS:
            raise RunError(
                f"{said}; they were replaced {REPLACEMENTS} times in this epoch: lower data.num_workers or data.batch_size, "
                "or look at these files"
            )
        log.warning(f"{said}; new ones go on with that batch")


class Rest:
    """What a loader has not given yet, for a DataLoader's ``batch_sampler``.

    It does not know its loader: a ring of references would leave the workers to the garbage collector, which waits for each in vain.
    """

    def __init__(self, batches: BatchSampler) -> None:
        self.batches, self.place = batches, 0

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return islice(iter(self.batches), self.place, None)

    def __len__(self) -> int:
        return len(self.batches)
