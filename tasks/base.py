"""The step of every task, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from backbones.base import Backbone
from heads.across import whole
from heads.statistics import synchronise
from structures import Batch, Features, InputError, Prediction, Spec
from tasks.freezing import rest, settle
from tasks.keeping import Kept, in_order, room
from tasks.recipe import Recipe
from tasks.sharing import gather, scatter, share_out

if TYPE_CHECKING:
    from typing_extensions import Self


class Task(LightningModule, ABC):
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
        keeps: Whether a sleeping backbone's features may be kept.

    Raises:
        InputError: If the data carries another kind of target or has another number of axes.
    """

    score: str
    linear_head = False
    targets: tuple[str, ...]
    axes: tuple[int, ...] = (1, 2, 3)
    keeps = True
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
        self.awake = len(backbone.stages)
        self.kept: Kept | None = None
        self.shared: list[nn.Module] = []
        self.meters = nn.ModuleDict()
        shape = (1, spec.channels, *[1] * spec.ndim)
        self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.channels).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.channels).reshape(shape), persistent=False)

    def measure(self, metrics: dict[str, Metric]) -> None:
        """Keep one set of meters for validation and one for the test."""
        for stage in ("val", "test"):
            own: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items()}
            # Grouped, two that happen to agree on the first batch of a process would share one state from then on.
            self.meters[stage] = MetricCollection(own, compute_groups=False)

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
        """Features of a batch by stride; what the head needs of them, where they are kept."""
        if self.kept is None:
            return self.backbone(self.normalise(batch))
        features = self.kept.get(batch)
        if features is None:
            features = self.head.needed(self.backbone(self.normalise(batch)))
            # Training batches differ every epoch, and on some processors bits follow from the batch that an item is in.
            if not self.training:
                self.kept.add(batch, features)
        return features

    def mix(self, batch: Batch) -> Batch:
        """What a training step sees of a batch whose items may be changed."""
        return batch

    def forward(self, batch: Batch) -> list[Prediction]:
        return self.predict(self.encode(batch), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self.mix(batch) if self.kept is None else batch
        losses = self.losses(self.encode(batch), batch)
        total = torch.stack(list(losses.values())).sum()
        shown = {f"train/{name}": value.detach() for name, value in losses.items()} | {"train/loss": total.detach()}
        self.log_dict(shown, on_step=False, on_epoch=True, batch_size=whole(count(batch), total.device))
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.judge("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.judge("test", batch)

    def judge(self, stage: str, batch: Batch) -> None:
        """Predict a batch and add it to the meters; the score comes once an epoch, over the whole set.

        A process for which no item was left comes with an empty batch.
        """
        if batch["names"]:
            self.update(stage, self(batch), batch)

    def on_validation_start(self) -> None:
        gather(self.shared)

    def on_validation_epoch_end(self) -> None:
        scatter(self.shared)
        self.report("val")

    def on_test_start(self) -> None:
        gather(self.shared)

    def on_test_epoch_end(self) -> None:
        scatter(self.shared)
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
        trainer: Any = self.trainer
        own = getattr(trainer.datamodule, "batch_size", 1)
        batch = own * trainer.world_size * trainer.accumulate_grad_batches
        return self.recipe(self, int(trainer.estimated_stepping_batches), self.epochs, batch, own)

    @property
    def heads(self) -> list[nn.Module]:
        return [self.head]

    def configure_model(self) -> None:
        """Where the processes share out the weights, which a device mesh says, do it; Lightning calls this more than once."""
        if self.device_mesh is not None and not self.shared:
            self.shared = share_out(self.backbone, self.heads, self.device_mesh["data_parallel"])

    def synchronise(self, gpu: bool) -> None:
        """Take batch statistics over all processes from now on."""
        synchronise(self, gpu)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.trainer.max_epochs or 1

    def train(self, mode: bool = True) -> Self:
        """As in torch, but what sleeps stays in evaluation mode."""
        super().train(mode)
        if hasattr(self, "backbone"):  # a part of a joint task has none of its own
            rest(self.backbone, self.awake)
        return self

    def on_train_epoch_start(self) -> None:
        self.follow_plan(self.current_epoch, self.epochs)
        if self.current_epoch >= self.still(self.epochs):
            self.kept = None
        elif self.kept is None:
            self.kept = Kept(room(self.device))
            self.keep_training_features()

    def follow_plan(self, epoch: int, epochs: int) -> None:
        """Wake and put to sleep what the recipe says for `epoch`, whatever was before."""
        self.awake = self.recipe.plan.awake(len(self.backbone.stages), epoch, epochs)
        settle(self.backbone, self.awake)
        self.train()

    def still(self, epochs: int) -> int:
        """The number of first epochs in which features are kept, so that items must not change."""
        return self.recipe.plan.still(len(self.backbone.stages), epochs) if self.keeps else 0

    @torch.no_grad()
    def keep_training_features(self) -> None:
        """Run the backbone over all training items once. Each process does it for all: shuffles hand it other items every epoch."""
        if isinstance(self.trainer.limit_train_batches, int):
            return  # a few batches to try things out do not need all items
        for batch in in_order(self.trainer.train_dataloader):
            if len(set(batch["sizes"])) > 1 or self.kept is None or self.kept.budget < 0:
                return  # what is padded in other company has other features
            batch = self.trainer.strategy.batch_to_device(batch, self.device)
            with self.trainer.precision_plugin.forward_context():
                self.kept.add(batch, self.head.needed(self.backbone(self.normalise(batch))))

    def on_train_end(self) -> None:
        self.kept = None

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
