"""The same small training runs in one process or in two under DDP: python ddp_worker.py RANK WORLD_SIZE PORT FOLDER."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from small_runs import digits, make_task
from torch.optim import SGD

from datamodules.base.datamodule import DataModule
from datamodules.joint import JointDataModule
from datamodules.synthetic import Scenes, Tones
from datamodules.transforms.augment import Augment
from resmet.engine.trainer import TrainerConfig
from tasks.base import Task
from tasks.optim.recipe import Recipe

FSDP = ("classification", "joint")
"""Tasks that are also trained with FSDP."""

GLOBAL_BATCH_SIZE = 8


def scenes(target: str, count: int, batch_size: int) -> Scenes:
    return Scenes(target=target, count=count, size=64, batch_size=batch_size)


def joint(batch_size: int) -> JointDataModule:
    """Two parts of different length: the shorter one starts again within an epoch."""
    return JointDataModule({"a": scenes("boxes", 15, batch_size), "b": scenes("mask", 23, batch_size)})


DATA: dict[str, Any] = {
    "classification": partial(digits, 23, size=64, augment=Augment()),
    "multilabel": partial(scenes, "labels", 23),
    "detection": partial(scenes, "boxes", 23),
    "segmentation": partial(scenes, "mask", 23),
    "audio": partial(Tones, count=23),
    "joint": joint,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "classification": {"label_smoothing": 0.1, "class_weights": "balanced"},
    "multilabel": {"class_weights": "balanced"},
    "segmentation": {"class_weights": "balanced"},
}


def make(kind: str, world_size: int) -> tuple[DataModule, Task]:
    data = DATA[kind](batch_size=GLOBAL_BATCH_SIZE // world_size)
    data.setup("fit")
    task = make_task(kind, data, **OPTIONS.get(kind, {}))
    # SGD at a low rate: Adam divides by the gradient norm, which turns a rounding into a step where the gradient is near zero
    task.recipe = Recipe(optimizer=partial(SGD, lr=0.001, momentum=0.9), lr_scaling="none")
    return data, task


class Losses(Callback):
    """Records the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def train_and_record(kind: str, world_size: int, folder: Path, strategy: str = "ddp") -> dict[str, Any]:
    """Returns the loss of every step, the metrics of the epoch, and the weights and BatchNorm statistics after it."""
    data, task = make(kind, world_size)
    losses = Losses()
    trainer = trainer_for(world_size, folder, strategy, 2, losses)
    trainer.fit(task, datamodule=data)
    path = folder / f"{kind}-{strategy}-{world_size}.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    weights = torch.load(path, weights_only=True)["state_dict"]
    return {"losses": losses.values, "metrics": metrics(trainer), "weights": weights}


def evaluate(kind: str, world_size: int, folder: Path, weights: dict[str, Any]) -> dict[str, float]:
    """Returns the test metrics of given weights."""
    data, task = make(kind, world_size)
    task.load_state_dict(weights)
    trainer = trainer_for(world_size, folder, "ddp", 1)
    trainer.test(task, datamodule=data, verbose=False)
    return metrics(trainer)


def trainer_for(world_size: int, folder: Path, strategy: str, max_epochs: int, *callbacks: Callback) -> Trainer:
    parallel: dict[str, Any] = {"strategy": strategy, "devices": world_size} if world_size > 1 else {"devices": 1}
    return TrainerConfig(max_epochs, "cpu", precision="32-true", **parallel).build(folder, callbacks)


def metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def gradients_of_part(rank: int) -> dict[str, Any]:
    """Returns the gradients of a joint step in which only the first process has the part ``a``."""
    data, task = make("joint", 2)
    task.convert_sync_batchnorm(gpu=False)
    batches = {name: next(iter(part.dataloader("train"))) for name, part in data.parts.items()}  # type: ignore[attr-defined]
    batch = batches if rank == 0 else {"b": batches["b"]}
    net = torch.nn.parallel.DistributedDataParallel(Step(task), broadcast_buffers=False)
    net(batch).backward()
    return {name: parameter.grad.clone() for name, parameter in task.named_parameters()}  # type: ignore[union-attr]


class Step(torch.nn.Module):
    """Returns the loss of a batch, for DDP to wrap."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Any) -> torch.Tensor:
        return torch.stack(list(self.task.losses(self.task.encode(batch), batch).values())).sum()


def main(rank: int, world_size: int, port: str, folder: Path) -> None:
    variables = {
        "LOCAL_RANK": rank,
        "NODE_RANK": 0,
        "WORLD_SIZE": world_size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for kind in DATA:
        results[kind] = train_and_record(kind, world_size, folder)
        results[kind]["test"] = evaluate(kind, world_size, folder, torch.load(folder / f"{kind}.pt", weights_only=True))
    results["gradients_of_part"] = gradients_of_part(rank)
    for kind in FSDP:
        results[f"{kind}, fsdp"] = train_and_record(kind, world_size, folder, "fsdp")
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
