"""trainer.batch_size=auto: the largest batch that fits on a GPU, the fastest on a CPU, found on a copy of the task before the first step."""

from __future__ import annotations

import gc
import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from foundation.hardware import free_memory, out_of_memory, peak_memory_mb
from foundation.parallel.collectives import reduce_over_ranks
from foundation.run_state import RunState
from foundation.structures import InputError
from resmet.callbacks.dry_run import DryRun, without_trace
from tasks.base import Task

SECONDS = 16.0
"""Longest search on a CPU."""

FASTER = 1.03
"""Factor of items per second that is worth a larger batch on a CPU: a smaller one learns more from the same items."""

MARGIN = 0.87
"""Fraction of a GPU's memory that may be used: batches differ, and memory fragments."""

BISECTIONS = 3

MIN_STEPS = 8
"""Steps that an epoch must keep: with fewer, larger batches would train too little."""

log = logging.getLogger("resmet")

Sizes = dict[str, int]
"""Items per batch by part of the data."""


class BatchSizeFinder(Callback):
    """Before the first step, finds ``data.batch_size``. The recipe's rule scales the learning rates with it.

    A run that is resumed or retried has its batch size already.

    Args:
        seconds: Longest search on a CPU.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the processes are connected, but the optimizer does not exist."""
        task: Any = pl_module
        state: RunState = task.run_state
        if stage != "fit" or state.epoch or state.batch or state.batch_halvings:
            return
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        before = data.batch_sizes
        with without_trace(data):
            search = BatchSizeSearch(trainer, task, data)
            gpu = trainer.strategy.root_device.type == "cuda"
            scale, reason = search.largest() if gpu else search.fastest(state.clock, self.seconds)
        state.resize_batches(scaled(before, scale))
        if trainer.is_global_zero:
            changed = "as configured" if data.batch_sizes == before else f"instead of {describe(before)}"
            log.info(f"batch size: {describe(data.batch_sizes)} {changed}, {reason}")


class BatchSizeSearch:
    """Steps at several batch sizes, made of the same items. All sizes are factors (`scale`) of the configured ones.

    Args:
        trainer: The Trainer of the run.
        task: The task of the run; a copy is trained.
        data: Prepared data.
    """

    def __init__(self, trainer: Trainer, task: Task, data: DataModule) -> None:
        self.trainer, self.task, self.sizes = trainer, task, data.batch_sizes
        self.max_scale = max_scale(data, trainer.world_size)
        self.batch = first_batch(data)

    def batch_of(self, scale: float) -> Any:
        sizes = scaled(self.sizes, scale)
        if "" in sizes:
            return repeated(self.batch, sizes[""])
        return {name: repeated(part, sizes[name]) for name, part in self.batch.items()}

    def fastest(self, clock: Clock, most: float) -> tuple[float, str]:
        """Returns the scale at which a CPU trains most items per second, doubling as long as that helps, and the reason in words."""
        started, dry_run, memory = clock.now(), DryRun(self.trainer, self.task, 0), peak_memory_mb()
        scale, rates = 1.0, [self.throughput(dry_run, clock, 1.0)]
        while 2 * scale <= self.max_scale:
            grown = (peak_memory_mb() - memory) * 2**20
            expected = clock.now() - started + 6 * scale * sum(self.sizes.values()) / rates[-1]
            if not self.trainer.strategy.broadcast(expected < most and 4 * grown < free_memory()):
                break
            rates.append(self.throughput(dry_run, clock, 2 * scale))
            if not self.trainer.strategy.broadcast(rates[-1] > FASTER * rates[-2]):
                break
            scale *= 2
        listed = ", ".join(f"{sum(scaled(self.sizes, 2**i).values())}: {rate:.0f}" for i, rate in enumerate(rates))
        return scale, f"the fastest on this CPU (items per second: {listed})"

    def throughput(self, dry_run: DryRun, clock: Clock, scale: float) -> float:
        """Returns items per second at a scale: of the faster of two steps, after one that allocates memory."""
        batch, durations = self.batch_of(scale), []
        for _ in range(3):
            before = clock.now()
            dry_run.train(batch)
            durations.append(clock.now() - before)
        return scale * sum(self.sizes.values()) / max(1e-9, min(durations[1:]))

    def largest(self) -> tuple[float, str]:
        """Returns the largest scale that fits on the GPU with a margin, by doubling or halving and then bisection, and the reason."""
        scale = 1.0
        too_large: float | None = None
        while not self.fits(scale):
            scale, too_large = scale / 2, scale
            if scale * min(self.sizes.values()) < 1:
                raise InputError(
                    "trainer.out_of_memory",
                    "out of memory: not even a batch of one item fits on this GPU: choose a smaller data.size or backbone",
                )
        while too_large is None and scale < self.max_scale:
            larger = min(2 * scale, self.max_scale)
            scale, too_large = (larger, None) if self.fits(larger) else (scale, larger)
        if too_large is None:
            return scale, "a larger one leaves an epoch too few steps"
        for _ in range(BISECTIONS):
            middle = (scale + too_large) / 2
            scale, too_large = (middle, too_large) if self.fits(middle) else (scale, middle)
        return scale, "a larger one does not fit on the GPU with a margin"

    def fits(self, scale: float) -> bool:
        """Returns whether two steps, the second with the optimizer's state, leave every process its margin of GPU memory."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        total, peak = gpu_memory(), float("inf")
        try:
            dry_run, batch = DryRun(self.trainer, self.task, 0), self.batch_of(scale)
            dry_run.train(batch)
            dry_run.train(batch)
            peak = float(torch.cuda.max_memory_reserved())
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        dry_run = batch = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()
        return bool(reduce_over_ranks([peak <= MARGIN * total], "min")[0])


def gpu_memory() -> float:
    """Returns the bytes of the GPU that are free or held by this process."""
    return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())


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
    each = [
        len(part.datasets["train"]) / (MIN_STEPS * world_size * part.current_batch_size) for part in data.parts.values()
    ]
    return max(1.0, min(each))


def describe(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" if name else f"{size}" for name, size in sizes.items())
