"""The step of every task, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from backbones.base import Backbone, image_memory_format
from foundation.parallel.sync_batchnorm import convert_sync_batchnorm
from foundation.structures import Batch, Features, InputError, Prediction, Spec
from tasks.fsdp import reshard, shard, unshard
from tasks.optim.optimization import TrainingModule
from tasks.optim.recipe import Recipe


class Task(TrainingModule, ABC):
    """A head on a backbone, with its losses and its metrics.

    A subclass names the targets it learns from and implements `losses`, `predict` and `update`; all share the steps below.

    Args:
        backbone: Maps the input to features; used as it is, never copied.

    Attributes:
        score: The metric that selects the best checkpoint; higher is better.
        targets: The kinds of target (`Spec.target`) that this task learns from.
        axes: The numbers of axes of its input.
        plot_data: What `compute_plot_data` returned last.
    """

    score: str
    targets: tuple[str, ...]
    axes: tuple[int, ...] = (1, 2, 3)
    metrics: Any
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, spec: Spec) -> None:
        super().__init__()
        name, remedy = type(self).__name__.lower(), "choose another task or data"
        if spec.target not in self.targets:
            text = f"task={name} learns from {' or '.join(self.targets)}, but this data has {spec.target}: {remedy}"
            raise InputError("task.wrong_target", text)
        if spec.ndim not in self.axes:
            text = f"task={name} takes inputs of {' or '.join(map(str, self.axes))} axes, this data has {spec.ndim}"
            raise InputError("task.wrong_axes", f"{text}: {remedy}")
        self.backbone = backbone
        self.spec = spec
        self.memory_format = memory_format(backbone, spec)
        self.recipe = Recipe()
        self.config: dict[str, Any] = {}
        self.unfrozen_stages = len(backbone.stages)
        self.sharded_modules: list[nn.Module] = []
        self.plot_data: dict[str, Any] = {}
        self.metrics = nn.ModuleDict()
        shape = (1, spec.channels, *[1] * spec.ndim)
        self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.channels).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.channels).reshape(shape), persistent=False)

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Registers a copy of `metrics` for validation and one for the test."""
        for stage in ("val", "test"):
            copies: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items()}
            # In a compute group, two metrics that happen to agree on a rank's first batch would share one state from then on.
            self.metrics[stage] = MetricCollection(copies, compute_groups=False)

    @abstractmethod
    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns scalar losses by name; training minimizes their sum."""

    @abstractmethod
    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        """Returns a prediction per item."""

    @abstractmethod
    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        """Adds a batch to the metrics of `stage`."""

    def normalize(self, batch: Batch) -> Tensor:
        """Returns the input as float, standardized by the mean and standard deviation of the data."""
        x = (batch["input"].float() - self.mean) / self.std
        return x.contiguous(memory_format=self.memory_format)

    def encode(self, batch: Batch) -> Features:
        """Returns the features of a batch by stride; from the cache where there is one, what the head needs of them."""
        if self.feature_cache is None:
            return self.backbone(self.normalize(batch))
        features = self.feature_cache.get(batch)
        if features is None:
            features = self.head.select(self.backbone(self.normalize(batch)))
            # Training batches differ every epoch, and on some CPUs the last bits depend on the rest of the batch.
            if not self.training:
                self.feature_cache.add(batch, features)
        return features

    def mix(self, batch: Batch) -> Batch:
        """Returns a training batch after mixup or cutmix, if the task uses one."""
        return batch

    def forward(self, batch: Batch) -> list[Prediction]:
        return self.predict(self.encode(batch), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Returns the ``loss``, and under ``losses`` the detached values that metrics.csv averages."""
        batch = self.mix(batch) if self.feature_cache is None else batch
        losses = self.losses(self.encode(batch), batch)
        total = torch.stack(list(losses.values())).sum()
        self.last_loss = total.detach()
        logged = {name: value.detach() for name, value in losses.items()} | {"loss": self.last_loss}
        return {"loss": total, "losses": logged}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch("test", batch)

    def evaluate_batch(self, stage: str, batch: Batch) -> None:
        """Predicts a batch and adds it to the metrics, which are computed once per epoch over the whole set.

        A rank for which no items are left gets an empty batch.
        """
        if batch["names"]:
            self.update(stage, self(batch), batch)

    def on_validation_start(self) -> None:
        unshard(self.sharded_modules)

    def on_validation_epoch_end(self) -> None:
        reshard(self.sharded_modules)
        self.log_metrics("val")

    def on_test_start(self) -> None:
        unshard(self.sharded_modules)

    def on_test_epoch_end(self) -> None:
        reshard(self.sharded_modules)
        self.log_metrics("test")

    def log_metrics(self, stage: str) -> None:
        """Computes, logs and resets the metrics of `stage`."""
        values = self.compute_metrics(stage)
        self.plot_data = self.compute_plot_data(stage)
        for metrics in self.stage_metrics(stage):
            metrics.reset()
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self.log_dict(named | {f"{stage}/score": values[self.score]})

    def stage_metrics(self, stage: str) -> list[Any]:
        return [self.metrics[stage]]

    def compute_metrics(self, stage: str) -> dict[str, float]:
        """Returns the scalar metrics over the whole set by name, `score` among them."""
        return {name: float(value) for name, value in self.metrics[stage].compute().items() if value.numel() == 1}

    def metric_names(self) -> list[str]:
        """Returns the keys of `compute_metrics`, known before anything is evaluated."""
        return [self.score]

    def compute_plot_data(self, stage: str) -> dict[str, Any]:
        """Returns ``confusion`` (C, C) with true classes in rows, and ``precision`` and ``recall`` (C, P) by class, where there are any."""
        return {}

    def notes(self) -> list[str]:
        """Returns what was chosen because the config leaves it open, for a run's log."""
        return []

    def write_defaults(self, config: dict[str, Any]) -> None:
        """Writes what was chosen into this task's node of a config, so that a checkpoint stays as it is if the rules change."""

    def load_pretrained_head(self, head: dict[str, Tensor]) -> int:
        """Loads a classifier that came with the backbone's weights; returns the number of tensors that matched."""
        return 0

    def use_config(self, config: dict[str, Any]) -> None:
        """Stores `config`, plain values, in checkpoints of this task."""
        self.config = config

    @property
    def heads(self) -> list[nn.Module]:
        return [self.head]

    def drop_backbone(self) -> None:
        """Removes the backbone from this task, for a joint task that registers it once."""
        del self.backbone

    def configure_model(self) -> None:
        """Shards the weights if the strategy has a device mesh; Lightning calls this more than once."""
        if self.device_mesh is not None and not self.sharded_modules:
            self.sharded_modules = shard(self.backbone, self.heads, self.device_mesh["data_parallel"])

    def convert_sync_batchnorm(self, gpu: bool) -> None:
        """Makes BatchNorm layers compute their batch statistics over all ranks."""
        convert_sync_batchnorm(self, gpu)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"], checkpoint["spec"] = self.config, self.spec.to_dict()
        checkpoint["run_state"] = self.run_state.state_dict()


def memory_format(backbone: Backbone, spec: Spec) -> torch.memory_format:
    """Returns the memory format of the backbone's input."""
    return image_memory_format(min(backbone.channels.values())) if spec.ndim == 2 else torch.contiguous_format


def count(batch: Any) -> int:
    """Returns the number of items of a batch, of all parts if it is joint."""
    return len(batch["names"]) if "names" in batch else sum(count(part) for part in batch.values() if part)
