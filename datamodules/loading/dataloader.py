"""The batches of one split, loaded by torch's DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from datamodules.loading.collate import UNREADABLE, collate, collate_packed, unpack
from datamodules.loading.sampler import BatchSampler
from datamodules.loading.workers import LoaderOptions
from foundation.targets.base import TargetKind

TIMEOUT = 300.0
"""Seconds without a batch after which torch's DataLoader raises a RuntimeError."""


class ItemLoader:
    """A DataLoader that unpacks its batches, reports unreadable items, and stops its workers on `close`.

    A worker that dies or hangs raises torch's RuntimeError, in the process of the run.

    Nothing that the dataset refers to may refer to this object. In such a reference cycle the garbage collector calls torch's
    `_MultiProcessingDataLoaderIter.__del__`, which starts the feeder thread of every index queue that was never used (there are fewer
    batches than workers), and then finalizes that queue's two connections while the thread writes to them. A connection that is
    finalized closes its file descriptor but keeps the number (`multiprocessing.connection`), so that the thread writes to a descriptor that
    is closed (EBADF) or by now another file's, and closes it.

    `on_unreadable` is called with the messages of the items of a batch that could not be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        kind: TargetKind,
        batch_sampler: BatchSampler,
        options: LoaderOptions,
        on_unreadable: Callable[[list[str]], None],
    ) -> None:
        self.dataset, self.kind, self.batch_sampler, self.options = dataset, kind, batch_sampler, options
        self.on_unreadable = on_unreadable
        self.collate_fn = partial(collate, kind=kind)
        self.loader: DataLoader | None = None
        self.iterator: Any = None

    @property
    def num_workers(self) -> int:
        return self.options.num_workers

    @property
    def sampler(self) -> BatchSampler:
        """The object that Lightning calls `set_epoch` of."""
        return self.batch_sampler

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        if self.loader is None:
            self.loader = self.make_loader()
        self.iterator = iter(self.loader)
        try:
            for batch in self.iterator:
                batch = unpack(batch, self.kind) if self.num_workers else batch
                if messages := batch.pop(UNREADABLE, None):
                    self.on_unreadable(messages)
                yield batch
        finally:
            if not self.options.persistent_workers:
                self.close()

    def make_loader(self) -> DataLoader:
        """Makes the DataLoader, which starts its workers when it is iterated over."""
        workers = self.num_workers > 0
        return DataLoader(
            self.dataset,
            batch_sampler=self.batch_sampler,
            num_workers=self.num_workers,
            persistent_workers=workers and self.options.persistent_workers,
            prefetch_factor=self.options.prefetch_factor if workers else None,
            collate_fn=partial(collate_packed, kind=self.kind) if workers else self.collate_fn,
            pin_memory=self.options.pin_memory,
            timeout=TIMEOUT if workers else 0,
        )

    def close(self) -> None:
        """Stops the workers; the next epoch starts new ones."""
        if hasattr(self.iterator, "_shutdown_workers"):  # as Lightning's CombinedLoader does
            self.iterator._shutdown_workers()
        self.loader = self.iterator = None
