"""trainer.batch_size=auto: the largest batch that fits on a GPU, the fastest on a CPU, found on a copy of the task before the first step."""

from __future__ import annotations

import gc
import logging
import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from foundation.hardware import out_of_memory
from foundation.parallel.collectives import local_only, reduce_over_ranks
from foundation.structures import InputError
from resmet.callbacks.dry_run import DryRun, without_trace
from resmet.checkpoints.lightning_state import data_of, task_of
from tasks.base import Task

FASTER = 1.03
"""Factor of items per second that is worth a larger batch on a CPU: a smaller one learns more from the same items."""

MARGIN = 0.87
"""Fraction of a GPU's memory that may be used: batches differ, and memory fragments."""

BISECTIONS = 3

MIN_STEPS = 8
"""Steps that an epoch must have at least: with fewer, larger batches would train too little."""

log = logging.getLogger("resmet")

Sizes = dict[str, int]
"""Items per batch by part of the data."""


class BatchSizeFinder(Callback):
    """Before the first step, finds ``data.batch_size``. The recipe's rule scales the learning rates with it.

    A run that is resumed or retried has its batch size already.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the processes are connected, but the optimizer does not exist."""
        task, data = task_of(pl_module), data_of(trainer)
        state = task.run_state
        if stage != "fit" or state.epoch or state.batch or state.batch_halvings:
            return
        before = data.batch_sizes
        with without_trace(data):
            search = BatchSizeSearch(trainer, task, data)
            gpu = trainer.strategy.root_device.type == "cuda"
            scale, reason = search.largest() if gpu else search.fastest(state.clock)
        state.resize_batches(scaled(before, scale))
        if trainer.is_global_zero:
            log.info(f"batch size: {describe(data.batch_sizes)} (configured: {describe(before)}), {reason}")


class BatchSizeSearch:
    """Trains a copy of the task at several batch sizes, with the same items. A `scale` is a factor of the configured sizes."""

    def __init__(self, trainer: Trainer, task: Task, data: DataModule) -> None:
        self.trainer, self.task, self.sizes = trainer, task, data.batch_sizes
        self.max_scale, self.batch = max_scale(data, trainer.world_size), first_batch(data)

    def batch_of(self, scale: float) -> Any:
        sizes = scaled(self.sizes, scale)
        if "" in sizes:
            return repeated(self.batch, sizes[""])
        return {name: repeated(part, sizes[name]) for name, part in self.batch.items()}

    def fastest(self, clock: Clock) -> tuple[float, str]:
        """Returns the scale at which a CPU trains most items per second, doubling as long as that helps, and the reason."""
        dry_run, scale = DryRun(self.trainer, self.task, 0), 1.0
        rates = [self.throughput(dry_run, clock, scale)]
        while 2 * scale <= self.max_scale:
            rates.append(self.throughput(dry_run, clock, 2 * scale))
            if not self.trainer.strategy.broadcast(rates[-1] > FASTER * rates[-2]):
                break
            scale *= 2
        listed = ", ".join(f"{rate:.0f}" for rate in rates)
        return scale, f"the fastest on this CPU (items per second, doubling: {listed})"

    def throughput(self, dry_run: DryRun, clock: Clock, scale: float) -> float:
        """Returns items per second at a scale: of the faster of two steps, after one that allocates memory."""
        batch, times = self.batch_of(scale), [clock.now()]
        for _ in range(3):
            dry_run.train(batch)
            times.append(clock.now())
        return scale * sum(self.sizes.values()) / max(1e-9, min(times[2] - times[1], times[3] - times[2]))

    def largest(self) -> tuple[float, str]:
        """Returns the largest scale that fits on the GPU with a margin, by doubling or halving and then bisection, and the reason.

        Raises:
            InputError: If not even a batch of one item fits.
        """
        fitting, too_large, scale = 0.0, math.inf, 1.0
        while fitting < self.max_scale and (not fitting or math.isinf(too_large)):
            if self.fits(scale):
                fitting, scale = scale, min(2 * scale, self.max_scale)
            else:
                too_large, scale = scale, scale / 2
            if scale * min(self.sizes.values()) < 1:
                text = "out of memory: not even a batch of one item fits on this GPU: choose a smaller data.size or backbone"
                raise InputError("trainer.out_of_memory", text)
        if math.isinf(too_large):
            return fitting, "a larger one leaves an epoch too few steps"
        for _ in range(BISECTIONS):
            middle = (fitting + too_large) / 2
            fitting, too_large = (middle, too_large) if self.fits(middle) else (fitting, middle)
        return fitting, "a larger one does not fit on the GPU with a margin"

    def fits(self, scale: float) -> bool:
        """Returns whether two steps, the second with the optimizer's state, leave every process its margin of GPU memory."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        available, peak = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved(), math.inf
        try:
            with local_only():  # a rank that runs out of memory leaves, and the others must not wait for it
                self.train_twice(scale)
            peak = torch.cuda.max_memory_reserved()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        gc.collect()
        torch.cuda.empty_cache()
        return bool(reduce_over_ranks([peak <= MARGIN * available], "min")[0])

    def train_twice(self, scale: float) -> None:
        dry_run, batch = DryRun(self.trainer, self.task, 0), self.batch_of(scale)
        dry_run.train(batch)
        dry_run.train(batch)


def first_batch(data: DataModule) -> Any:
    """Returns the first training batch, loaded in this process: workers would have to be started."""
    batches = {}
    for name, part in data.parts.items():
        loader = part.dataloader("train")
        batches[name] = loader.collate_fn(loader.dataset.__getitems__(next(iter(loader.batch_sampler))))
    return batches.get("", batches)


def repeated(batch: Any, size: int) -> Any:
    """Returns a batch of `size` items: the first of `batch`, or all of them in turn."""
    order = [i % len(batch["names"]) for i in range(size)]
    return {k: [v[i] for i in order] if isinstance(v, list) else v[torch.tensor(order)] for k, v in batch.items()}


def scaled(sizes: Sizes, scale: float) -> Sizes:
    """Returns all batch sizes times `scale`, at least one item each."""
    return {name: max(1, round(size * scale)) for name, size in sizes.items()}


def max_scale(data: DataModule, world_size: int) -> float:
    """Returns the largest scale that leaves an epoch of the smallest part `MIN_STEPS` steps; at least 1."""
    steps = (len(part.datasets["train"]) / (world_size * part.current_batch_size) for part in data.parts.values())
    return max(1.0, min(steps) / MIN_STEPS)


def describe(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" if name else f"{size}" for name, size in sizes.items())
