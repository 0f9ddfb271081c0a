"""The training half of every task: optimizer, frozen stages, cached features, gradient clipping."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from foundation.contracts import TrainingData
from foundation.run_state import RunState
from foundation.structures import Batch, InputError
from tasks.optim.feature_cache import FeatureCache, available_bytes, in_order
from tasks.optim.freezing import eval_frozen, freeze
from tasks.optim.recipe import Recipe

if TYPE_CHECKING:
    from typing_extensions import Self


class TrainingModule(LightningModule):
    """What all tasks share of training, apart from the step itself.

    Attributes:
        recipe: How the task is trained.
        run_state: What changes during a run; shared with the data module and the callbacks.
        unfrozen_stages: How many stages of the backbone train, counted from the deepest.
        feature_cache: Features of a frozen backbone; None while they are not cached.
        can_cache_features: Whether they may be cached.
        linear_head: Whether the head is a single linear layer, which trains at higher learning rates than a deep one.
        last_loss: The loss of the last step, detached.
    """

    backbone: Any  # a Backbone; torch types a module's attributes as Tensor or Module, which fits neither
    head: Any
    recipe: Recipe
    unfrozen_stages: int
    last_loss: Tensor
    can_cache_features = True
    linear_head = False

    def __init__(self) -> None:
        super().__init__()
        self.run_state = RunState()
        self.feature_cache: FeatureCache | None = None

    def normalize(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def use_recipe(self, recipe: Recipe) -> None:
        """Trains by `recipe` from the next call of `configure_optimizers` on."""
        self.recipe = recipe

    def setup(self, stage: str) -> None:
        """Disables augmentation while features are cached, before the loaders exist."""
        if stage != "fit":
            return
        data = self.training_data
        self.can_cache_features = self.can_cache_features and data is not None and data.can_disable_augmentation
        epochs = self.cached_epochs(self.epochs)
        # A run with a time budget may take more epochs than planned.
        self.run_state.disable_augmentation_for(epochs if epochs < self.epochs else sys.maxsize)

    def configure_optimizers(self) -> Any:
        if self.trainer.precision == "16-mixed" and self.recipe.optimizer_arguments.get("fused"):
            text = "trainer.precision=16-mixed scales gradients, which a fused optimizer hides from gradient clipping"
            remedy = "set recipe.optimizer.fused=false, or trainer.precision=bf16-mixed"
            raise InputError("recipe.fused_with_fp16", f"{text}: {remedy}")
        data = self.training_data
        current, requested = (data.current_batch_size, data.batch_size) if data else (1, 1)
        batch = current * self.trainer.world_size * self.trainer.accumulate_grad_batches
        steps = self.run_state.total_steps or int(self.trainer.estimated_stepping_batches)
        return self.recipe(self, steps, self.epochs, batch, requested)

    @property
    def training_data(self) -> TrainingData | None:
        """The data module of the Trainer, if it is one of this project's."""
        data = cast(Any, self.trainer).datamodule
        return data if isinstance(data, TrainingData) else None

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, as planned at its start."""
        return self.run_state.total_epochs or max(1, self.trainer.max_epochs or 1)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but frozen stages stay in evaluation mode."""
        super().train(mode)
        if hasattr(self, "backbone"):  # a part of a joint task has none of its own
            eval_frozen(self.backbone, self.unfrozen_stages)
        return self

    @property
    def heads(self) -> list[Any]:
        raise NotImplementedError

    def compile_parts(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compiles the backbone and what each head lists as `compilable`. Names in the state dict do not change.

        Compilation takes place at the first step, and again when a stage is unfrozen or the number of axes of a batch changes.

        Args:
            backend: As in `torch.compile`.
        """
        for part in (self.backbone, *(module for head in self.heads for module in head.compilable)):
            part.compile(backend=backend)

    def on_train_start(self) -> None:
        if self.run_state.batch:  # Lightning does not call on_train_epoch_start when it resumes within an epoch
            self.begin_epoch()

    def on_train_epoch_start(self) -> None:
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Freezes stages and caches features as the recipe schedules for this epoch, regardless of the epoch before."""
        caches = self.current_epoch < self.run_state.no_augment_epochs
        epoch = 0 if caches else self.run_state.planned_epoch(self.current_epoch, self.global_step)
        self.freeze_stages(epoch, self.epochs)
        if not caches:
            self.feature_cache = None
        elif self.feature_cache is None:
            self.feature_cache = FeatureCache(available_bytes(self.device))
            self.cache_training_features()

    def freeze_stages(self, epoch: int, epochs: int) -> None:
        """Freezes and unfreezes stages as the recipe schedules for `epoch` of `epochs`."""
        self.unfrozen_stages = self.recipe.freeze.unfrozen_stages(len(self.backbone.stages), epoch, epochs)
        freeze(self.backbone, self.unfrozen_stages)
        self.train()

    def cached_epochs(self, epochs: int) -> int:
        """Returns the number of epochs at the start in which features are cached, so that items must not change."""
        return self.recipe.freeze.cached_epochs(len(self.backbone.stages), epochs) if self.can_cache_features else 0

    @torch.no_grad()
    def cache_training_features(self) -> None:
        """Runs the backbone over all training items once, in every process: the shuffle assigns them to other ranks in every epoch."""
        if isinstance(self.trainer.limit_train_batches, int):
            return  # a few batches do not need the features of all items
        for batch in in_order(self.trainer.train_dataloader):
            if len(set(batch["sizes"])) > 1 or self.feature_cache is None or self.feature_cache.budget < 0:
                return  # the features of a padded item depend on the other items of its batch
            batch = self.trainer.strategy.batch_to_device(batch, self.device)
            with self.trainer.precision_plugin.forward_context():
                self.feature_cache.add(batch, self.head.select(self.backbone(self.normalize(batch))))

    def on_train_end(self) -> None:
        self.feature_cache = None

    def free_memory(self) -> None:
        """Drops cached features and gradients, before a run is retried."""
        self.feature_cache = None
        self.zero_grad(set_to_none=True)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips gradients, and drops them where the run state's check finds the loss or their norm non-finite."""
        # A walk over the modules would take as long as the losses of a small step.
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self.recipe.gradient_clip_norm:
            clip_grads_with_norm_(parameters, self.recipe.gradient_clip_norm, norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not self.run_state.is_finite(self.last_loss, norm):
            optimizer.zero_grad(set_to_none=True)  # without a gradient, a weight and its momentum stay as they are
