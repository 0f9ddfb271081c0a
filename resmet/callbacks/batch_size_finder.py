"""Which batch size? The largest that fits on a card, the fastest on a processor, tried on a copy of the task before the first step."""

from __future__ import annotations

import gc
import logging
import statistics
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.hardware import free_memory
from foundation.memory import out_of_memory, peak_memory_mb
from foundation.structures import InputError
from resmet.callbacks.dry_run import Trial, batches, parts, unseen
from tasks.base import Task

SHARES = (1.0, 0.25, 0.5, 2.0, 4.0)
"""Of data.batch_size, what a processor tries; the first comes before the others."""

SECONDS = 16.0
"""That trying may take on a processor."""

ROUNDS = 5
NEAR = 0.97
"""Of the best rate: a smaller batch that comes as near is taken, for it learns more from the same items."""

MARGIN = 0.87
"""Of a card's memory, what a trial may fill: batches differ, and memory falls to pieces."""

FEWEST = 8
"""Steps that an epoch keeps: with fewer, larger batches would have nothing left to learn in."""

log = logging.getLogger("resmet")

Sizes = dict[str, int]
"""Items a batch by part of the data; the part of data that is not joint has no name."""


class FindBatch(Callback):
    """Before the first step, find ``data.batch_size``; the recipe's rule scales the rates with it.

    Args:
        data: Prepared data.
        seed: Of the random choices inside a step.
        most: Seconds that a search on a processor may take.
    """

    def __init__(self, data: Any, seed: int, most: float = SECONDS) -> None:
        self.data, self.seed, self.most = data, seed, most
        self.found: Sizes | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """At this point the processes know of each other, and the optimizer is not made yet."""
        if stage != "fit" or self.found is not None or not getattr(trainer, "automatic_batch", False):
            return
        task: Any = pl_module
        asked = sizes(self.data)
        with unseen(self.data):
            search = Search(trainer, task, self.data, self.seed)
            gpu = trainer.strategy.root_device.type == "cuda"
            share, why = search.largest() if gpu else search.fastest(self.most)
        share, why = trainer.strategy.broadcast((share, why))
        self.found = scaled(asked, share)
        resize(self.data, self.found)
        if trainer.is_global_zero:
            instead = "as asked for" if self.found == asked else f"instead of {shown(asked)}"
            log.info(f"batch size: {shown(self.found)} {instead}, {why}")


class Search:
    """Steps at several batch sizes, made of the same items.

    Args:
        trainer: The run's.
        task: The run's; a copy is trained.
        data: Prepared data.
        seed: Of the random choices inside a step.
    """

    def __init__(self, trainer: Trainer, task: Task, data: Any, seed: int) -> None:
        epochs = trainer.max_epochs or 1
        self.trainer, self.asked = trainer, sizes(data)
        self.make = lambda: Trial(trainer, task, seed, epochs - 1, epochs)
        self.most = most_share(data, trainer.world_size)
        self.batch = one_batch(data)
        self.tried: dict[int, float] = {}

    @property
    def own(self) -> int:
        return sum(self.asked.values())

    def batch_of(self, share: float) -> Any:
        wanted = scaled(self.asked, share)
        if "" in wanted:
            return repeated(self.batch, wanted[""])
        return {name: repeated(part, wanted[name]) for name, part in self.batch.items()}

    def fastest(self, most: float) -> tuple[float, str]:
        """The share of the batch size asked for at which a processor trains most items a second, and that in words."""
        began, trial = time.monotonic(), self.make()
        taken: dict[float, list[float]] = {}
        before = peak_memory_mb()
        for share in SHARES:
            expected = min((min(taken[s]) / s for s in taken), default=0.0) * share
            grown = (peak_memory_mb() - before) * 2**20
            fits = share <= 1 or grown * share < free_memory() / 2
            # Twice its own and one more round of all: there must be time to measure what is begun.
            late = time.monotonic() - began + 3 * expected > most
            if not self.agree((share <= self.most and fits and not late) or share == 1):
                continue
            timed(trial, self.batch_of(share))  # the first of its size also makes room
            taken[share] = [timed(trial, self.batch_of(share))]
        for _ in range(ROUNDS - 1):
            if not self.agree(time.monotonic() - began + sum(map(min, taken.values())) < most):
                break
            for share, own in taken.items():
                own.append(timed(trial, self.batch_of(share)))
        rates = {share: share * self.own / statistics.median(own) for share, own in sorted(taken.items())}
        chosen = next(share for share, rate in rates.items() if rate >= NEAR * max(rates.values()))
        listed = ", ".join(f"{sum(scaled(self.asked, s).values())}: {rate:.0f}" for s, rate in rates.items())
        others = "" if len(rates) > 1 else "; there was no time or no room for others"
        return chosen, f"the fastest here (items a second at {listed}{others})"

    def largest(self) -> tuple[float, str]:
        """The share of the batch size asked for that fills a card up to a margin, and that in words."""
        room = card_memory() * MARGIN
        share, peak = 1.0, self.peak(1.0)
        while peak is None or peak > room:
            share /= 2
            if share * min(self.asked.values()) < 1:
                raise InputError(
                    "not even a batch of one item fits in this card's memory: choose a smaller data.size or backbone"
                )
            peak = self.peak(share)
        fits = {share: peak}
        while share * 2 <= self.most and self.foreseen(fits, 2 * share) <= room:
            peak = self.peak(2 * share)
            if peak is None or peak > room:
                break
            share *= 2
            fits[share] = peak
        last = self.between(fits, min(2 * share, self.most), room)
        if last > share and (peak := self.peak(last)) is not None and peak <= room:
            share, fits[last] = last, peak
        used, whole = fits[share] / 2**30, card_memory() / 2**30
        full = "a larger one leaves an epoch too few steps" if share >= self.most else "a larger one leaves no margin"
        return share, f"which takes {used:.1f} of {whole:.1f} GB of the card; {full}"

    def foreseen(self, fits: dict[float, float], share: float) -> float:
        """Bytes at `share`, on the line through the two largest that fit; of a single one, as many times its own."""
        known = sorted(fits)[-2:]
        if len(known) == 1:
            return fits[known[0]]  # one more doubling is worth the try
        (a, b), (low, high) = known, (fits[known[0]], fits[known[1]])
        return high + (share - b) * max(0.0, high - low) / (b - a)

    def between(self, fits: dict[float, float], most: float, room: float) -> float:
        """The largest share up to `most` that is foreseen to fit, at whole eighths of the largest that did."""
        last = max(fits)
        if len(fits) < 2:
            return last
        steps = [last * (1 + i / 8) for i in range(1, 9)]
        return max([last, *(s for s in steps if s <= most and self.foreseen(fits, s) <= room)])

    def peak(self, share: float) -> float | None:
        """The most bytes on the card in two steps; None where some process ran out of them."""
        enough, used = True, 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            self.two_steps(share)
            used = float(torch.cuda.max_memory_reserved())
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            enough = False
        gc.collect()
        torch.cuda.empty_cache()
        return used if self.agree(enough) else None

    def two_steps(self, share: float) -> None:
        """The second has the optimizer's averages."""
        trial, batch = self.make(), self.batch_of(share)
        for _ in range(2):
            timed(trial, batch)

    def agree(self, yes: bool) -> bool:
        """Whether all processes say so."""
        if self.trainer.world_size == 1:
            return yes
        said = torch.tensor([int(yes)], device=self.trainer.strategy.root_device)
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN)
        return bool(said.item())


def timed(trial: Trial, batch: Any) -> float:
    """Seconds of a step."""
    began = time.monotonic()
    trial.step(trial.loss(batch))
    trial.settle()
    return time.monotonic() - began


def card_memory() -> float:
    """Bytes of the card that are free or ours."""
    return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())


def one_batch(data: Any) -> Any:
    """A batch of training items at the size asked for, loaded here rather than by workers that would have to be started."""
    num_workers = {name: part.num_workers for name, part in parts(data).items()}
    for part in parts(data).values():
        part.num_workers = 0
    batch = next(batches(data.loader("train")))
    for name, part in parts(data).items():
        part.num_workers = num_workers[name]
    return batch


def repeated(batch: Any, wanted: int) -> Any:
    """A batch of `wanted` items: the first of `batch`, or all of them in turn."""
    order = [i % len(batch["names"]) for i in range(wanted)]
    picked = {k: [v[i] for i in order] if isinstance(v, list) else v[torch.tensor(order)] for k, v in batch.items()}
    return picked


def sizes(data: Any) -> Sizes:
    """Items a batch by part."""
    return {name: part.batch_size for name, part in parts(data).items()}


def scaled(asked: Sizes, share: float) -> Sizes:
    """All parts by the same factor, at least one item each."""
    return {name: max(1, round(size * share)) for name, size in asked.items()}


def resize(data: Any, wanted: Sizes) -> None:
    """Let every part make batches of another size."""
    for name, part in parts(data).items():
        part.batch_size = wanted[name]
    data.batch_size = sum(wanted.values())


def most_share(data: Any, world: int) -> float:
    """The largest factor of the batch size that leaves an epoch of the smallest part `FEWEST` steps; at least 1."""
    each = [len(part.splits["train"]) / (FEWEST * world * part.batch_size) for part in parts(data).values()]
    return max(1.0, min(each))


def shown(found: Sizes) -> str:
    return ", ".join(f"{name} {size}" if name else f"{size}" for name, size in found.items())
