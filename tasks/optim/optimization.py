"""How a task learns: its optimizer, which stages are awake, kept features, the length of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from foundation.structures import Batch, InputError
from tasks.optim.feature_cache import Kept, in_order, room
from tasks.optim.freezing import rest, settle
from tasks.optim.recipe import Recipe
from tasks.optim.schedule import Pace

if TYPE_CHECKING:
    from typing_extensions import Self


class Learning(LightningModule):
    """What all tasks share of training, beside the step itself.

    Attributes:
        recipe: How the task is trained.
        awake: How many of the backbone's stages learn, counted from the deepest.
        kept: Features of a sleeping backbone.
        keeps: Whether those may be kept.
        total: The loss of the last step.
        slower: Factor of all learning rates, below 1 after a run went back.
        halvings: How often the batch size was halved for want of memory.
        asked: Items a batch as the data was asked for, where a run has chosen another number; 0 where it has not.
        pace: How far the run is with its plan.
        sound: Asked before every step whether a loss and a gradient of this length may be followed.
    """

    backbone: Any  # a Backbone; torch types a module's attributes as Tensor or Module, which fits neither
    head: Any
    recipe: Recipe
    unfrozen_stages: int
    total: Tensor
    can_cache_features = True

    def __init__(self) -> None:
        super().__init__()
        self.feature_cache: Kept | None = None
        self.lr_scale = 1.0
        self.batch_halvings, self.asked = 0, 0
        self.pace = Pace()
        self.sound: Callable[[Tensor, Tensor], bool] | None = None

    def normalise(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        if self.trainer.precision == "16-mixed" and getattr(self.recipe.optimizer, "keywords", {}).get("fused"):
            raise InputError(
                "trainer.precision=16-mixed scales gradients, which a fused optimizer hides from clipping: "
                "say recipe.optimizer.fused=false, or trainer.precision=bf16-mixed"
            )
        trainer: Any = self.trainer
        size = getattr(trainer.datamodule, "batch_size", 1)
        batch = size * trainer.world_size * trainer.accumulate_grad_batches
        steps = self.pace.steps or int(trainer.estimated_stepping_batches)
        return self.recipe(self, steps, self.epochs, batch, self.asked or size)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, as it was planned first."""
        return self.pace.epochs or self.trainer.max_epochs or 1

    def train(self, mode: bool = True) -> Self:
        """As in torch, but what sleeps stays in evaluation mode."""
        super().train(mode)
        if hasattr(self, "backbone"):  # a part of a joint task has none of its own
            rest(self.backbone, self.unfrozen_stages)
        return self

    @property
    def heads(self) -> list[Any]:
        raise NotImplementedError

    def compile_parts(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Let torch compile what takes a tensor to a tensor: the backbone, and of every head what it says. Weights keep their names.

        It takes place at the first step, and again where a stage wakes or the axes of a batch change.

        Args:
            backend: What makes a program of a graph, as `torch.compile` takes it.
        """
        for part in (self.backbone, *(dense for head in self.heads for dense in head.dense)):
            part.compile(backend=backend)

    def on_train_start(self) -> None:
        if getattr(self.trainer.datamodule, "position", (0, 0))[1]:  # type: ignore[attr-defined]
            self.on_train_epoch_start()  # what goes on in the middle of an epoch has no other start

    def on_train_epoch_start(self) -> None:
        epoch = self.pace.epoch(self.current_epoch, self.global_step)
        self.follow_plan(epoch, self.epochs)
        if epoch >= self.still(self.epochs):
            self.feature_cache = None
        elif self.feature_cache is None:
            self.feature_cache = Kept(room(self.device))
            self.keep_training_features()

    def follow_plan(self, epoch: int, epochs: int) -> None:
        """Wake and put to sleep what the recipe says for `epoch`, whatever was before."""
        self.unfrozen_stages = self.recipe.plan.unfrozen_stages(len(self.backbone.stages), epoch, epochs)
        settle(self.backbone, self.unfrozen_stages)
        self.train()

    def still(self, epochs: int) -> int:
        """The number of first epochs in which features are kept, so that items must not change."""
        return self.recipe.plan.still(len(self.backbone.stages), epochs) if self.can_cache_features else 0

    @torch.no_grad()
    def keep_training_features(self) -> None:
        """Run the backbone over all training items once. Each process does it for all: shuffles hand it other items every epoch."""
        if isinstance(self.trainer.limit_train_batches, int):
            return  # a few batches to try things out do not need all items
        for batch in in_order(self.trainer.train_dataloader):
            if len(set(batch["sizes"])) > 1 or self.feature_cache is None or self.feature_cache.budget < 0:
                return  # what is padded in other company has other features
            batch = self.trainer.strategy.batch_to_device(batch, self.device)
            with self.trainer.precision_plugin.forward_context():
                self.feature_cache.add(batch, self.head.needed(self.backbone(self.normalise(batch))))

    def on_train_end(self) -> None:
        self.feature_cache = None

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip, and leave the step out where whoever watches says that its gradient must not be followed."""
        every = [p for group in optimizer.param_groups for p in group["params"]]
        moved = [
            p for p in every if p.grad is not None
        ]  # a walk over all modules takes as long as a small step's losses
        norm = get_total_norm([p.grad for p in moved])
        if self.recipe.clip:
            clip_grads_with_norm_(moved, self.recipe.clip, norm)
        length = norm.full_tensor() if isinstance(norm, DTensor) else norm  # shared out over processes
        if self.sound is not None and not self.sound(self.total, length):
            optimizer.zero_grad(
                set_to_none=True
            )  # a weight without a gradient stays as it is, and so does its momentum
