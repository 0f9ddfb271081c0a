"""Lightning's Trainer with the choices of this project."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from foundation.hardware import fast_precision
from foundation.parallel.rendezvous import TIMEOUT
from foundation.structures import InputError
from resmet.callbacks.batch_size_finder import BatchSizeFinder
from resmet.callbacks.progress_bar import Progress
from resmet.checkpoints.checkpoint_io import WholeFiles
from resmet.engine.fsdp_strategy import Sharded, refuse_whole

PER_CORE = 4
"""Processes a core, at most."""

COMPILERS = ("g++", "clang++", "c++")
"""What torch compiles with where nothing else is named in CXX."""

LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")


def make_trainer(
    max_epochs: int = 8,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: int | str | list[int] = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "auto",
    accumulate: int = 1,
    every: int = 1,
    limit: int | None = None,
    batch_size: Literal["auto"] | None = None,
    sync_batchnorm: bool = True,
    unused: bool = False,
    run_dir: Path | None = None,
    callbacks: Sequence[Any] = (),
    logger: Any = False,
) -> Trainer:
    """The engine of a run.

    Args:
        max_epochs: Times that all training items are seen; -1 trains until a callback stops it.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: How many processes or cards, or which cards.
        num_nodes: Machines.
        strategy: ``auto``, ``ddp`` for several processes that have a copy of the weights each, or ``fsdp``, which shares them out.
        precision: ``auto``, or one of Lightning's words, such as ``32-true`` or ``bf16-mixed``.
        accumulate: Batches whose gradients make one step of the optimizer.
        every: Epochs from one validation to the next.
        limit: Batches an epoch and stage, to try things out; None takes all.
        batch_size: ``auto`` finds ``data.batch_size``: the largest that fits on a card, the fastest on a processor.
        sync_batchnorm: Take batch statistics over all processes, so that batches do not become smaller by being shared out.
        unused: Whether parameters may be without a gradient in some epochs; several processes must know.
        run_dir: Where things are written.
        callbacks: What runs beside the training.
        logger: Where figures go besides ``metrics.csv``.

    Raises:
        InputError: If a number is below 1, this machine lacks what was asked for, or `fsdp` can't do what a callback needs.
    """
    refuse_below_one(
        max_epochs=abs(max_epochs), accumulate=accumulate, every=every, limit=1 if limit is None else limit
    )
    hush()
    engine = partial(
        Trainer,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=fast_precision(accelerator) if precision == "auto" else precision,  # type: ignore[arg-type]
        max_epochs=max_epochs,
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=min(every, max_epochs) if max_epochs > 0 else every,
        **dict.fromkeys(LIMITS, 1.0 if limit is None else limit),  # type: ignore[arg-type]
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # ours takes no item twice
        default_root_dir=run_dir,
        logger=logger,
        plugins=[WholeFiles()],
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        log_every_n_steps=1,
        inference_mode=strategy != "fsdp",  # weights gathered for inference could not learn afterwards
    )
    # First of all, so that a search for the batch size or the learning rate runs with what they change.
    first: list[Callback] = [Synchronise()] if sync_batchnorm else []
    first += [BatchSizeFinder()] if batch_size == "auto" else []
    return with_strategy(engine, strategy, unused, [*first, *callbacks])


def with_strategy(engine: Callable[..., Trainer], strategy: str, unused: bool, callbacks: Sequence[Any]) -> Trainer:
    """One process as Lightning has it; several always as `ddp` has them, also where ``auto`` makes them several."""
    if strategy == "fsdp":
        refuse_whole(callbacks, unused)
    try:
        made = engine(strategy=ddp(unused) if strategy in ("ddp", "fsdp") else strategy, callbacks=list(callbacks))
        refuse_crowds(made)
        if strategy == "fsdp":
            return engine(strategy=Sharded(made.world_size), callbacks=list(callbacks))
        if strategy == "auto" and made.world_size > 1:
            return engine(strategy=ddp(unused), callbacks=list(callbacks))
        return made
    except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(f"this trainer can't be made here: {str(error).splitlines()[0]}") from error


def refuse_crowds(made: Trainer) -> None:
    """Refuse more processes than a processor can serve: they would wait for each other until they give up."""
    cores = os.cpu_count() or 1
    if made.strategy.root_device.type == "cpu" and made.num_devices > PER_CORE * cores:
        raise InputError(
            f"trainer.devices={made.num_devices} processes on {cores} cores are too many: take at most {PER_CORE * cores}"
        )


def refuse_without_compiler(trainer: Trainer) -> None:
    """Refuse ``compile=true`` where torch could not compile: before the data is read rather than at the first step.

    Raises:
        InputError: Naming what is missing.
    """
    if trainer.strategy.root_device.type == "cuda":
        if find_spec("triton") is None:
            raise InputError("compile=true needs the package triton on a card: install it, or say compile=false")
    elif not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS)):
        raise InputError(
            f"compile=true needs a C++ compiler ({', '.join(COMPILERS)}) on a processor: install one, or say compile=false"
        )


class Synchronise(Callback):
    """Before the weights are handed to several processes, take batch statistics over all of them."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit" and trainer.world_size > 1:
            pl_module.synchronise(trainer.strategy.root_device.type == "cuda")


def refuse_below_one(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"trainer.{name} must be at least 1, got {value}")


def hush() -> None:
    """Keep Lightning's advice off the console; what matters we say ourselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no card, where compile=true
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings(
        "ignore", message="Grad strides do not match"
    )  # 1x1 kernels, whose layouts are one and the same
    warnings.filterwarnings(
        "ignore", message=".*was called before the ``update``"
    )  # where a process has nothing to judge
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15


def ddp(unused: bool) -> Any:
    """Several processes that average their gradients. Evaluation shards differ in length, so a forward must not wait for others."""
    from lightning.pytorch.strategies import DDPStrategy

    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused, timeout=TIMEOUT)
