"""The step of every task, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from backbones.base import Backbone
from structures import Batch, Features, InputError, Prediction, Spec
from tasks.recipe import Recipe


class Task(LightningModule, ABC):
    """A head on a backbone, with its losses and its score.

    A subclass says which targets it takes and gives `losses`, `predict` and `update`; the steps below serve all of them.

    Args:
        backbone: What turns the signal into features; shared, never copied.
        spec: What the data says of itself.

    Attributes:
        score: The metric that decides, higher is better.
        targets: The kinds of target (`Spec.target`) that this task can learn from.
        axes: The numbers of axes that it takes.

    Raises:
        InputError: If the data carries another kind of target or has another number of axes.
    """

    score: str
    targets: tuple[str, ...]
    axes: tuple[int, ...] = (1, 2, 3)
    backbone: Any  # a Backbone; torch types a module's attributes as Tensor or Module, which fits neither
    head: Any
    meters: Any
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
        self.recipe = Recipe()
        self.config: dict[str, Any] = {}
        self.meters = nn.ModuleDict()
        shape = (1, spec.channels, *[1] * spec.ndim)
        self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.channels).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.channels).reshape(shape), persistent=False)

    def measure(self, metrics: dict[str, Metric]) -> None:
        """Keep one set of meters for validation and one for the test."""
        for stage in ("val", "test"):
            self.meters[stage] = MetricCollection({name: metric.clone() for name, metric in metrics.items()})

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
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def encode(self, batch: Batch) -> Features:
        """Features of a batch by stride."""
        return self.backbone(self.normalise(batch))

    def forward(self, batch: Batch) -> list[Prediction]:
        return self.predict(self.encode(batch), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(self.encode(batch), batch)
        total = torch.stack(list(losses.values())).sum()
        shown = {f"train/{name}": value.detach() for name, value in losses.items()} | {"train/loss": total.detach()}
        self.log_dict(shown, on_step=False, on_epoch=True, batch_size=count(batch))
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.judge("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.judge("test", batch)

    def judge(self, stage: str, batch: Batch) -> None:
        """Predict a batch and add it to the meters; the score comes once an epoch, over the whole set."""
        self.update(stage, self(batch), batch)

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def report(self, stage: str) -> None:
        results = self.results(stage)
        self.curves = self.details(stage)
        for meter in self.stage_meters(stage):
            meter.reset()
        self.log_dict(
            {f"{stage}/{name}": value for name, value in results.items()} | {f"{stage}/score": results[self.score]}
        )

    def stage_meters(self, stage: str) -> list[Any]:
        return [self.meters[stage]]

    def results(self, stage: str) -> dict[str, float]:
        """Scalars over the whole set by name, `score` among them."""
        return {name: float(value) for name, value in self.meters[stage].compute().items() if value.numel() == 1}

    def details(self, stage: str) -> dict[str, Any]:
        """What a picture can be made of: ``confusion`` (C, C) with true classes in rows, ``precision`` and ``recall`` by class."""
        return {}

    def adopt_head(self, head: dict[str, Tensor]) -> int:
        """Take over a classifier that came with the backbone's weights; returns how many tensors fitted."""
        return 0

    def configure_optimizers(self) -> Any:
        return self.recipe(self, int(self.trainer.estimated_stepping_batches))

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        if self.recipe.clip:
            self.clip_gradients(optimizer, gradient_clip_val=self.recipe.clip, gradient_clip_algorithm="norm")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"], checkpoint["spec"] = self.config, self.spec.to_dict()


def count(batch: Any) -> int:
    """Items in a batch; over all parts where it is joint."""
    return len(batch["names"]) if "names" in batch else sum(count(part) for part in batch.values() if part)
