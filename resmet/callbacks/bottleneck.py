"""Whether a run is bound by data or by compute, and which options would help."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer

from datamodules.base.datamodule import DataModule
from foundation.hardware import cores, fast_precision
from tasks.base import Task

DATA_BOUND, COMPUTE_BOUND = 0.25, 0.1
"""Fractions of the time spent on loading: above the first, faster loading helps; below the second, faster steps."""


def describe_bottleneck(loading: float, trainer: Trainer, task: Task, data: DataModule) -> str:
    """Returns the report for a run that spends the fraction `loading` of its time on loading."""
    advice = faster_data(data) if loading > COMPUTE_BOUND else []
    advice += faster_steps(trainer, task) if loading < DATA_BOUND else []
    bound = "data" if loading > 0.5 else "compute"
    report = f"the run is {bound}-bound: {loading:.0%} of the time for loading, {1 - loading:.0%} for steps"
    return f"{report}; {' or '.join(advice)} would help" if advice else report


def faster_data(data: DataModule) -> list[str]:
    """Returns the options for faster loading that are not in use yet."""
    parts = list(data.parts.values())
    decoded = all(part.in_memory for part in parts)
    uncached = [part for part in parts if part.cache_mode == "off"]
    options = {
        "data.cache=auto": uncached,
        "data.cache=disk": not decoded and not uncached and all(part.cache_mode != "disk" for part in parts),
        f"data.num_workers={cores()}": any(
            loader.num_workers < cores() > 1 for part in parts for loader in part.loaders
        ),
        "shards (pack.py)": not decoded and any(part.can_pack for part in parts),
    }
    return [option for option, helps in options.items() if helps]


def faster_steps(trainer: Trainer, task: Task) -> list[str]:
    """Returns the options for faster steps that are not in use yet."""
    gpu = trainer.strategy.root_device.type == "cuda"
    fast = fast_precision("gpu" if gpu else "cpu") != "32-true"
    options = {
        "trainer.accelerator=gpu": not gpu and torch.cuda.is_available(),
        "trainer.precision=bf16-mixed": fast and trainer.precision == "32-true",
        "compile=true": gpu and not task.config.get("compile"),
        "trainer.batch_size=auto": gpu and not task.config.get("trainer", {}).get("batch_size"),
    }
    return [option for option, helps in options.items() if helps]
