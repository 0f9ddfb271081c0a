"""The step of every task, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from backbones.base import Backbone, picture_layout
from foundation.parallel.sync_batchnorm import synchronise
from foundation.structures import Batch, Features, InputError, Prediction, Spec
from tasks.fsdp import gather, scatter, share_out
from tasks.optim.optimization import TrainingModule
from tasks.optim.recipe import Recipe


class Task(TrainingModule, ABC):
    """A head on a backbone, with its losses and its score.

    A subclass says which targets it takes and gives `losses`, `predict` and `update`; the steps below serve all of them.

    Args:
        backbone: What turns the signal into features; shared, never copied.
        spec: What the data says of itself.

    Attributes:
        score: The metric that decides, higher is better.
        linear_head: Whether the head is a single linear layer, which bears higher rates than a deep one.
        targets: The kinds of target (`Spec.target`) that this task can learn from.
        axes: The numbers of axes that it takes.

    Raises:
        InputError: If the data carries another kind of target or has another number of axes.
    """

    score: str
    linear_head = False
    targets: tuple[str, ...]
    axes: tuple[int, ...] = (1, 2, 3)
    metrics: Any
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, spec: Spec) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        if spec.target not in self.targets:
            raise InputError(
                f"task={name} learns from {' or '.join(self.targets)}, but this data carries {spec.target}: choose another task or data"
            )
        if spec.ndim not in self.axes:
            raise InputError(
                f"task={name} takes signals of {self.axes} axes, this data has {spec.ndim}: choose another task"
            )
        self.backbone = backbone
        self.spec = spec
        self.memory_format = memory_format(backbone, spec)
        self.recipe = Recipe()
        self.config: dict[str, Any] = {}
        self.unfrozen_stages = len(backbone.stages)
        self.sharded_modules: list[nn.Module] = []
        self.metrics = nn.ModuleDict()
        shape = (1, spec.channels, *[1] * spec.ndim)
        self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.channels).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.channels).reshape(shape), persistent=False)

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Keep one set of meters for validation and one for the test."""
        for stage in ("val", "test"):
            own: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items()}
            # Grouped, two that happen to agree on the first batch of a process would share one state from then on.
            self.metrics[stage] = MetricCollection(own, compute_groups=False)

    @abstractmethod
    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; their sum is what training lowers."""

    @abstractmethod
    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        """One answer an item."""

    @abstractmethod
    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        """Add a batch to the meters of `stage`."""

    def normalise(self, batch: Batch) -> Tensor:
        """The input in float, centred and scaled by the data's own mean and deviation."""
        x = (batch["input"].float() - self.mean) / self.std
        return x.contiguous(memory_format=self.memory_format)

    def encode(self, batch: Batch) -> Features:
        """Features of a batch by stride; what the head needs of them, where they are kept."""
        if self.feature_cache is None:
            return self.backbone(self.normalise(batch))
        features = self.feature_cache.get(batch)
        if features is None:
            features = self.head.needed(self.backbone(self.normalise(batch)))
            # Training batches differ every epoch, and on some processors bits follow from the batch that an item is in.
            if not self.training:
                self.feature_cache.add(batch, features)
        return features

    def mix(self, batch: Batch) -> Batch:
        """What a training step sees of a batch whose items may be changed."""
        return batch

    def forward(self, batch: Batch) -> list[Prediction]:
        return self.predict(self.encode(batch), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The loss to lower, and under ``losses`` what a table of the run shows."""
        batch = self.mix(batch) if self.feature_cache is None else batch
        losses = self.losses(self.encode(batch), batch)
        total = torch.stack(list(losses.values())).sum()
        self.total = total.detach()
        shown = {name: value.detach() for name, value in losses.items()} | {"loss": self.total}
        return {"loss": total, "losses": shown}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch("test", batch)

    def evaluate_batch(self, stage: str, batch: Batch) -> None:
        """Predict a batch and add it to the meters; the score comes once an epoch, over the whole set.

        A process for which no item was left comes with an empty batch.
        """
        if batch["names"]:
            self.update(stage, self(batch), batch)

    def on_validation_start(self) -> None:
        gather(self.sharded_modules)

    def on_validation_epoch_end(self) -> None:
        scatter(self.sharded_modules)
        self.log_metrics("val")

    def on_test_start(self) -> None:
        gather(self.sharded_modules)

    def on_test_epoch_end(self) -> None:
        scatter(self.sharded_modules)
        self.log_metrics("test")

    def log_metrics(self, stage: str) -> None:
        results = self.results(stage)
        self.curves = self.details(stage)
        for meter in self.stage_metrics(stage):
            meter.reset()
        self.log_dict(
            {f"{stage}/{name}": value for name, value in results.items()} | {f"{stage}/score": results[self.score]}
        )

    def stage_metrics(self, stage: str) -> list[Any]:
        return [self.metrics[stage]]

    def results(self, stage: str) -> dict[str, float]:
        """Scalars over the whole set by name, `score` among them."""
        return {name: float(value) for name, value in self.metrics[stage].compute().items() if value.numel() == 1}

    def metric_names(self) -> list[str]:
        """The names in `results`, known before anything is judged."""
        return [self.score]

    def details(self, stage: str) -> dict[str, Any]:
        """What a picture can be made of: ``confusion`` (C, C) with true classes in rows, ``precision`` and ``recall`` by class."""
        return {}

    def notes(self) -> list[str]:
        """What was decided of this task because nobody said otherwise, for a run's log."""
        return []

    def write_defaults(self, config: dict[str, Any]) -> None:
        """Write what was decided into this task's part of a config, so that a checkpoint stays what it is if the rules change."""

    def adopt_head(self, head: dict[str, Tensor]) -> int:
        """Take over a classifier that came with the backbone's weights; returns how many tensors fitted."""
        return 0

    def use_config(self, config: dict[str, Any]) -> None:
        """Stores `config`, plain values, in checkpoints of this task."""
        self.config = config

    @property
    def heads(self) -> list[nn.Module]:
        return [self.head]

    def configure_model(self) -> None:
        """Where the processes share out the weights, which a device mesh says, do it; Lightning calls this more than once."""
        if self.device_mesh is not None and not self.sharded_modules:
            self.sharded_modules = share_out(self.backbone, self.heads, self.device_mesh["data_parallel"])

    def synchronise(self, gpu: bool) -> None:
        """Take batch statistics over all processes from now on."""
        synchronise(self, gpu)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"], checkpoint["spec"] = self.config, self.spec.to_dict()
        checkpoint["run_state"] = self.run_state.state_dict()


def memory_format(backbone: Backbone, spec: Spec) -> torch.memory_format:
    """How the input lies in memory."""
    return picture_layout(min(backbone.channels.values())) if spec.ndim == 2 else torch.contiguous_format


def count(batch: Any) -> int:
    """Items in a batch; over all parts where it is joint."""
    return len(batch["names"]) if "names" in batch else sum(count(part) for part in batch.values() if part)
