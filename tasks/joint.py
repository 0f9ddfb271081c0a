"""Several tasks on one backbone object."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import Backbone
from foundation.parallel.collectives import all_reduce_sum, local_only, world_size
from foundation.structures import Batch, InputError, Prediction, Spec, require_range
from tasks.base import Task


class Joint(Task):
    """Every part has its own data, batch, head, losses and metrics; the backbone is one and the same.

    Args:
        backbone: Shared by all parts; the state dict holds it once.
        spec: Joint data's Spec, with one Spec a part.
        tasks: {part: makes the task from a backbone and a Spec}.
        weights: {part: factor of its losses}; 1 where a part is not named.

    Raises:
        InputError: If tasks and data do not have the same parts, or a weight is negative.
    """

    score = "mean"
    can_cache_features = False  # every part has items and a batch of its own
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
        if set(tasks) != set(spec.parts):
            raise InputError(
                f"task=joint has the parts {sorted(tasks)}, its data has {sorted(spec.parts)}: name them alike"
            )
        if unknown := set(weights or {}) - set(tasks):
            raise InputError(f"task.weights names {sorted(unknown)}, the parts are {sorted(tasks)}")
        for name, weight in (weights or {}).items():
            require_range(f"task.weights.{name}", weight, 0)
        self.parts = nn.ModuleDict({name: make(backbone, spec.parts[name]) for name, make in tasks.items()})
        for part in self.parts.values():
            del part.backbone  # registered once, here
        self.seen: set[str] = set()
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in tasks}

    @property
    def heads(self) -> list[nn.Module]:
        return [part.head for part in self.parts.values()]

    def encode(self, batch: Any) -> Any:
        holders, features = self.holders(batch), {}
        for name in batch:
            with local_only(holders[name] < world_size()):
                features[name] = self.backbone(self.parts[name].normalise(batch[name]))
        return features

    def holders(self, batch: Any) -> dict[str, int]:
        """How many processes have a batch of each part at this training step. What not all have is summed up by each alone."""
        if not self.training or world_size() == 1:
            return dict.fromkeys(self.parts, 1)
        flags = all_reduce_sum(
            torch.tensor([name in batch for name in self.parts], dtype=torch.int32, device=self.device)
        )
        return dict(zip(self.parts, flags.tolist(), strict=True))

    def losses(self, features: Any, batch: Any) -> dict[str, Tensor]:
        holders = self.holders(batch)
        found: dict[str, Tensor] = {}
        for name in batch:
            with local_only(holders[name] < world_size()):
                own = self.parts[name].losses(features[name], batch[name])
            # Gradients are averaged over all processes, also those that have none to give.
            factor = self.weights[name] * (1 if holders[name] == world_size() else world_size() / holders[name])
            found |= {f"{name}/{key}": factor * value for key, value in own.items()}
        return found | self.untouched(batch) if world_size() > 1 else found

    def untouched(self, batch: Any) -> dict[str, Tensor]:
        """Zero times the weights of absent parts: several processes wait for a gradient of every weight."""
        parts = [self.parts[name] for name in self.parts if name not in batch]
        first = [weight.flatten()[0] for part in parts for weight in part.parameters() if weight.requires_grad]
        return {"absent": 0 * torch.stack(first).sum()} if first else {}

    def predict(self, features: Any, batch: Any) -> Any:
        return {name: self.parts[name].predict(features[name], batch[name]) for name in batch}

    def evaluate_batch(self, stage: str, batch: Any) -> None:
        # The shorter sets end earlier, and have no item for some processes.
        present = {name: part for name, part in batch.items() if part is not None and part["names"]}
        for name, predictions in self(present).items():
            self.parts[name].update(stage, predictions, present[name])
            self.seen.add(name)

    def judged(self) -> list[str]:
        """The parts that had something to judge, in any process; a part's data may have no test split."""
        flags = torch.tensor([name in self.seen for name in self.parts], dtype=torch.int32, device=self.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return [name for name, flag in zip(self.parts, flags.tolist(), strict=True) if flag]

    def log_metrics(self, stage: str) -> None:
        super().log_metrics(stage)
        self.seen.clear()

    def notes(self) -> list[str]:
        return [f"{name}: {remark}" for name, part in self.parts.items() for remark in part.notes()]

    def write_defaults(self, config: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.write_defaults(config["tasks"][name])

    def update(self, stage: str, predictions: list[Prediction], batch: Batch) -> None:
        raise NotImplementedError("joint data is judged part by part, see evaluate_batch")

    def stage_metrics(self, stage: str) -> list[Any]:
        return [part.metrics[stage] for part in self.parts.values()]

    def results(self, stage: str) -> dict[str, float]:
        """``part/metric`` for every part that was judged, and the mean of their scores."""
        found = {name: self.parts[name].results(stage) for name in self.judged()}
        flat = {f"{name}/{key}": value for name, results in found.items() for key, value in results.items()}
        scores = [results[self.parts[name].score] for name, results in found.items()]
        return flat | {"mean": sum(scores) / len(scores) if scores else float("nan")}

    def metric_names(self) -> list[str]:
        return [f"{name}/{own}" for name, part in self.parts.items() for own in part.metric_names()] + ["mean"]

    def details(self, stage: str) -> dict[str, Any]:
        return {name: self.parts[name].details(stage) for name in self.judged()}
