"""Several tasks on one backbone object."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import Backbone
from foundation.parallel.collectives import local_only, reduce_over_ranks, world_size
from foundation.structures import Batch, InputError, Prediction, Spec, require_range
from tasks.base import Task


class Joint(Task):
    """Tasks with data, batches, heads, losses and metrics of their own, and one shared backbone.

    Args:
        backbone: Shared by all parts; the state dict holds it once.
        spec: The Spec of joint data, with one Spec per part.
        tasks: {part: makes the task from a backbone and a Spec}.
        weights: {part: factor of its losses}; 1 for a part that is not named.

    Attributes:
        ranks: {part: how many ranks have a batch of it}, of the batch that was encoded last.
    """

    score = "mean"
    can_cache_features = False  # the parts have different items and batches
    targets = ("parts",)
    parts: Any

    def __init__(
        self,
        backbone: Backbone,
        spec: Spec,
        tasks: Mapping[str, Callable[..., Task]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(backbone, spec)
        weights = weights or {}
        check_parts(tasks, spec, weights)
        self.parts = nn.ModuleDict({name: make(backbone, spec.parts[name]) for name, make in tasks.items()})
        for part in self.parts.values():
            part.drop_backbone()  # registered once, by this task
        self.evaluated: set[str] = set()
        self.ranks: dict[str, int] = {}
        self.weights = {name: float(weights.get(name, 1.0)) for name in tasks}

    @property
    def heads(self) -> list[nn.Module]:
        return [part.head for part in self.parts.values()]

    def encode(self, batch: Any) -> Any:
        self.ranks, features = self.ranks_with(batch), {}
        for name in batch:
            with local_only(self.ranks[name] < world_size()):
                features[name] = self.backbone(self.parts[name].normalize(batch[name]))
        return features

    def ranks_with(self, batch: Any) -> dict[str, int]:
        """Returns how many ranks have a batch of each part at this training step; a part that some lack is reduced locally."""
        if not self.training or world_size() == 1:
            return dict.fromkeys(self.parts, 1)
        counts = reduce_over_ranks([name in batch for name in self.parts], "sum")
        return {name: int(number) for name, number in zip(self.parts, counts, strict=True)}

    def losses(self, features: Any, batch: Any) -> dict[str, Tensor]:
        ranks = self.ranks
        losses: dict[str, Tensor] = {}
        for name in batch:
            with local_only(ranks[name] < world_size()):
                part_losses = self.parts[name].losses(features[name], batch[name])
            # Gradients are averaged over all ranks, including those without a batch of this part.
            factor = self.weights[name] * (1 if ranks[name] == world_size() else world_size() / ranks[name])
            losses |= {f"{name}/{key}": factor * value for key, value in part_losses.items()}
        return losses | self.zero_loss(batch) if world_size() > 1 else losses

    def zero_loss(self, batch: Any) -> dict[str, Tensor]:
        """Returns zero times the weights of absent parts, since DDP expects a gradient of every weight on every rank."""
        parts = [self.parts[name] for name in self.parts if name not in batch]
        first = [weight.flatten()[0] for part in parts for weight in part.parameters() if weight.requires_grad]
        return {"absent": 0 * torch.stack(first).sum()} if first else {}

    def predict(self, features: Any, batch: Any) -> Any:
        return {name: self.parts[name].predict(features[name], batch[name]) for name in batch}

    def evaluate_batch(self, stage: str, batch: Any) -> None:
        # Shorter sets end earlier, and some ranks get no item of them.
        present = {name: part for name, part in batch.items() if part is not None and part["names"]}
        for name, predictions in self(present).items():
            self.parts[name].update(stage, predictions, present[name])
            self.evaluated.add(name)

    def evaluated_parts(self) -> list[str]:
        """Returns the parts that any rank had items of; the data of a part may have no test split."""
        flags = reduce_over_ranks([name in self.evaluated for name in self.parts], "max")
        return [name for name, flag in zip(self.parts, flags, strict=True) if flag]

    def log_metrics(self, stage: str) -> None:
        super().log_metrics(stage)
        self.evaluated.clear()

    def notes(self) -> list[str]:
        return [f"{name}: {note}" for name, part in self.parts.items() for note in part.notes()]

    def write_defaults(self, config: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.write_defaults(config["tasks"][name])

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        raise NotImplementedError("joint data is evaluated part by part, see evaluate_batch")

    def stage_metrics(self, stage: str) -> list[Any]:
        return [part.metrics[stage] for part in self.parts.values()]

    def compute_metrics(self, stage: str) -> dict[str, float]:
        """Returns ``part/metric`` for every part that was evaluated, and the ``mean`` of their scores."""
        by_part = {name: self.parts[name].compute_metrics(stage) for name in self.evaluated_parts()}
        flat = {f"{name}/{key}": value for name, values in by_part.items() for key, value in values.items()}
        scores = [values[self.parts[name].score] for name, values in by_part.items()]
        return flat | {"mean": sum(scores) / len(scores) if scores else float("nan")}

    def metric_names(self) -> list[str]:
        return [f"{name}/{metric}" for name, part in self.parts.items() for metric in part.metric_names()] + ["mean"]

    def compute_plot_data(self, stage: str) -> dict[str, Any]:
        return {name: self.parts[name].compute_plot_data(stage) for name in self.evaluated_parts()}


def check_parts(tasks: Mapping[str, Any], spec: Spec, weights: Mapping[str, float]) -> None:
    """Refuses parts that do not match the data, and weights that are negative or of no part."""
    if set(tasks) != set(spec.parts):
        text = f"task=joint has the parts {sorted(tasks)}, its data has {sorted(spec.parts)}: give them the same names"
        raise InputError("config.parts_differ", text)
    if reserved := [name for name in tasks if hasattr(nn.ModuleDict(), name)]:
        text = f"task.tasks.{reserved[0]}: a part can't have this name, choose another"
        raise InputError("config.reserved_name", text)
    if unknown := set(weights) - set(tasks):
        text = f"task.weights has {sorted(unknown)}, the parts are {sorted(tasks)}: use their names"
        raise InputError("config.unknown_key", text)
    for name, weight in weights.items():
        require_range(f"task.weights.{name}", weight, 0)
