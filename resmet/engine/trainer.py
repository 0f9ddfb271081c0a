"""Lightning's Trainer from a config: its own arguments under their own names, and the strategies that this project trains with."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from foundation.hardware import cores, fast_precision
from foundation.parallel.rendezvous import TIMEOUT
from foundation.structures import InputError, first_line, require_range
from resmet.callbacks.batch_size_finder import BatchSizeFinder
from resmet.callbacks.checkpoint import CheckpointWriter
from resmet.callbacks.ema import WeightAveraging
from resmet.callbacks.lr_finder import LRFinder
from resmet.callbacks.sync_batchnorm import SyncBatchNorm
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO
from resmet.engine.fsdp_strategy import FullyShardedStrategy

MAX_PROCESSES_PER_CORE = 4

COMPILERS = ("g++", "clang++", "c++")
"""What torch compiles with unless CXX names another."""

ACCELERATORS: dict[str, tuple[Any, ...]] = {
    "cpu": (CPUAccelerator,),
    "gpu": (CUDAAccelerator,),
    "auto": (CUDAAccelerator, CPUAccelerator),
}
"""In order of preference. MPS has no float64, in which metrics are accumulated."""

OWN = ("strategy", "sync_batchnorm", "batch_size")
"""Fields that are not passed to Lightning as they are."""

IGNORED_WARNINGS = (
    "Found .* in eval mode at the start of training",  # frozen stages
    ".*`broadcast_buffers` is deprecated",  # its successor does not exist before torch 2.15
    "Grad strides do not match",  # 1x1 kernels, for which both memory layouts are the same
    ".*was called before the ``update``",  # a rank without items of a split
    ".*LeafSpec.*",  # Lightning 2.6.6 with torch 2.15
)


@dataclass(frozen=True)
class TrainerConfig:
    """Arguments of Lightning's Trainer, with defaults that fit this project. Names and meanings are Lightning's unless noted.

    Args:
        max_epochs: Number of epochs; -1 trains until a callback stops.
        devices: Number of devices, or which; one process each.
        strategy: ``auto``, ``ddp`` (a replica of the weights in each process) or ``fsdp`` (a shard in each).
        precision: One of Lightning's, such as ``32-true`` or ``bf16-mixed``; ``auto`` takes bf16 where the hardware computes it fast.
        limit_train_batches: Batches (int) or fraction of the batches (float) of a training epoch; None is all.
        sync_batchnorm: Compute batch statistics over all processes; unlike Lightning's, also on CPU.
        batch_size: Not an argument of Lightning's: ``auto`` searches for ``data.batch_size`` before training.
    """

    max_epochs: int = 8
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | str | list[int] = "auto"
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: str = "auto"
    accumulate_grad_batches: int = 1
    check_val_every_n_epoch: int = 1
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    sync_batchnorm: bool = True
    batch_size: Literal["auto"] | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "num_nodes", "accumulate_grad_batches", "check_val_every_n_epoch"):
            value = vars(self)[name]
            if (name, value) != ("max_epochs", -1):
                require_range(f"trainer.{name}", value, 1)

    @property
    def parallel_devices(self) -> list[torch.device]:
        """The devices of this machine, as Lightning chooses them; one process each."""
        kind = next((kind for kind in ACCELERATORS[self.accelerator] if kind.is_available()), None)
        if kind is None:
            text = "trainer.accelerator=gpu needs a CUDA GPU, and torch finds none: use trainer.accelerator=cpu"
            raise InputError("trainer.no_gpu", text)
        try:
            count = kind.auto_device_count() if self.devices == "auto" else self.devices
            devices: list[torch.device] = kind.get_parallel_devices(kind.parse_devices(count))
        except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
            text = f"trainer.devices={self.devices} is not possible here: {first_line(error)}"
            raise InputError("trainer.invalid", text) from error
        most = MAX_PROCESSES_PER_CORE * cores()
        if kind is CPUAccelerator and len(devices) > most:
            text = f"trainer.devices={len(devices)} are too many processes for {cores()} cores"
            raise InputError("trainer.too_many_processes", f"{text}: use at most {most}")
        return devices

    @property
    def world_size(self) -> int:
        """Number of processes on all machines."""
        return len(self.parallel_devices) * self.num_nodes

    def build(
        self,
        run_dir: Path | None = None,
        callbacks: Sequence[Callback] = (),
        logger: Logger | bool = False,
        find_unused_parameters: bool = False,
    ) -> Trainer:
        """Returns a Trainer for the run folder `run_dir`.

        Args:
            find_unused_parameters: Whether parameters may have no gradient in some epochs, which DDP must know.
        """
        silence()
        # Before all others, so that a search for the learning rate runs with what they change.
        own: list[Callback] = [SyncBatchNorm()] if self.sync_batchnorm else []
        own += [BatchSizeFinder()] if self.batch_size == "auto" else []
        strategy = self.build_strategy(callbacks, find_unused_parameters)
        checkpoint_io = next((c.io for c in callbacks if isinstance(c, CheckpointWriter)), None)
        try:
            return Trainer(
                **self.arguments(),
                strategy=strategy,
                callbacks=[*own, *callbacks],
                plugins=[checkpoint_io or AtomicCheckpointIO()],
                enable_checkpointing=checkpoint_io is not None,
                logger=logger,
                default_root_dir=run_dir,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,  # the data modules' samplers take no item twice
                enable_model_summary=False,
                enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
                log_every_n_steps=1,
                # Weights that FSDP gathers in inference mode could not be trained afterwards.
                inference_mode=self.strategy != "fsdp",
            )
        except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
            raise InputError("trainer.invalid", f"this trainer is not possible here: {first_line(error)}") from error

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments that Lightning takes as they are, or nearly so."""
        arguments = {name: value for name, value in vars(self).items() if name not in OWN}
        if self.precision == "auto":
            arguments["precision"] = fast_precision("cpu" if self.parallel_devices[0].type == "cpu" else "gpu")
        if self.max_epochs > 0:  # else a run of fewer epochs would have no validation
            arguments["check_val_every_n_epoch"] = min(self.check_val_every_n_epoch, self.max_epochs)
        return arguments

    def build_strategy(self, callbacks: Sequence[Callback], find_unused_parameters: bool) -> Strategy | str:
        """Returns FSDP, DDP for ``ddp`` or several processes, or Lightning's ``auto``."""
        if self.strategy == "fsdp":
            check_sharded(callbacks, find_unused_parameters)
            return FullyShardedStrategy(self.world_size)
        if self.strategy == "auto" and self.world_size == 1:
            return "auto"
        # Ranks validate different numbers of batches, so a forward pass must not wait for the other ranks' buffers.
        return DDPStrategy(broadcast_buffers=False, find_unused_parameters=find_unused_parameters, timeout=TIMEOUT)


def check_sharded(callbacks: Sequence[Callback], partly_frozen: bool) -> None:
    """Refuses what needs the whole weights in every process; the message names the keys that turn it off."""
    kinds = {WeightAveraging: "recipe.ema=0", LRFinder: "recipe.find_lr=false"}
    off = [key for kind, key in kinds.items() if any(isinstance(callback, kind) for callback in callbacks)]
    off += ["recipe.freeze.frozen=0 recipe.freeze.unfreezing=0"] if partly_frozen else []
    if off:
        text = "trainer=fsdp shards the weights, and this recipe needs all of them in every process"
        raise InputError("trainer.not_with_fsdp", f"{text}: set {' '.join(off)}, or use trainer=ddp")


def check_compiler(config: TrainerConfig) -> None:
    """Refuses ``compile=true`` where torch could not compile: before the data is read rather than at the first step."""
    if config.parallel_devices[0].type == "cuda":
        missing = "the package triton" if find_spec("triton") is None else ""
    else:
        found = any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS))
        missing = "" if found else f"a C++ compiler ({', '.join(COMPILERS)})"
    if missing:
        raise InputError("trainer.no_compiler", f"compile=true needs {missing}: install it, or set compile=false")


def silence() -> None:
    """Hides Lightning's log messages, and the warnings whose causes are known and harmless here."""
    for name in ("lightning.pytorch", "lightning.fabric", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Lightning's advice on workers, samplers and resuming
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
