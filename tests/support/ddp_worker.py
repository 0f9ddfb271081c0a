"""The same small runs in one process or in two under DDP: python ddp_worker.py RANK WORLD_SIZE PORT FOLDER."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything
from torch.optim import SGD

from backbones.resnet import ResNet
from datamodules.base.datamodule import DataModule
from datamodules.joint import JointDataModule
from datamodules.synthetic import Digits, Scenes, Tones
from heads.rcnn import RCNN
from resmet.engine.trainer import TrainerConfig
from tasks.audio import Audio
from tasks.base import Task
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.joint import Joint
from tasks.optim.recipe import Recipe
from tasks.segmentation import Segmentation

SHARDED = ("classification", "joint")
BATCH = 8  # items a step, over all processes
SMALL = partial(RCNN, width=16, hidden=32, sampled=32, proposals=50)


def digits(batch_size: int) -> Digits:
    data = Digits(size=64, batch_size=batch_size)
    whole = data.read()
    data.read = lambda: {split: items[:23] for split, items in whole.items()}  # type: ignore[method-assign]
    return data


def scenes(target: str, count: int, batch_size: int) -> Scenes:
    return Scenes(target, count, 64, batch_size=batch_size)


def joint(batch_size: int) -> JointDataModule:
    """The parts' sets differ in length, so that some end earlier and one starts again."""
    return JointDataModule({"a": scenes("boxes", 15, batch_size), "b": scenes("mask", 23, batch_size)})


DATA: dict[str, Any] = {
    "classification": digits,
    "multilabel": partial(scenes, "labels", 23),
    "detection": partial(scenes, "boxes", 23),
    "segmentation": partial(scenes, "mask", 23),
    "audio": lambda batch_size: Tones(23, batch_size=batch_size),
    "joint": joint,
}


def make(kind: str, world: int) -> tuple[DataModule, Task]:
    data = DATA[kind](batch_size=BATCH // world)
    data.prepare()
    seed_everything(0, verbose=False)
    net = ResNet(18, width=8, ndim=data.spec.ndim, in_channels=data.spec.channels)
    makers: dict[str, Any] = {
        "classification": partial(Classification, label_smoothing=0.1, class_weights="balanced"),
        "multilabel": partial(Classification, class_weights="balanced"),
        "detection": partial(Detection, head=SMALL),
        "segmentation": partial(Segmentation, class_weights="balanced"),
        "audio": Audio,
        "joint": partial(Joint, tasks={"a": partial(Detection, head=SMALL), "b": Segmentation}),
    }
    task: Task = makers[kind](net, data.spec)
    # Adam divides by the size of a gradient, so that rounding alone grows tenfold a step where that is near zero; so do large steps.
    task.recipe = Recipe(optimizer=partial(SGD, lr=0.001, momentum=0.9), lr_scaling="none")
    return data, task


class Losses(Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.found.append(float(outputs["loss"]))


def figures(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def learn(kind: str, world: int, folder: Path, strategy: str = "ddp") -> dict[str, Any]:
    """Losses by step, the table of an epoch, running statistics, and the weights afterwards."""
    data, task = make(kind, world)
    losses = Losses()
    more: dict[str, Any] = {"strategy": strategy, "devices": world} if world > 1 else {"devices": 1}
    trainer = TrainerConfig(2, "cpu", precision="32-true", **more).build(folder, [losses])
    trainer.fit(task, datamodule=data)
    path = folder / f"{kind}-{strategy}-{world}.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    weights = torch.load(path, weights_only=True)["state_dict"]
    return {"losses": losses.found, "figures": figures(trainer), "weights": weights}


def judge(kind: str, world: int, folder: Path, weights: dict[str, Any]) -> dict[str, float]:
    """The test figures of given weights."""
    data, task = make(kind, world)
    task.load_state_dict(weights)
    more: dict[str, Any] = {"strategy": "ddp", "devices": world} if world > 1 else {"devices": 1}
    trainer = TrainerConfig(1, "cpu", precision="32-true", **more).build(folder)
    trainer.test(task, datamodule=data, verbose=False)
    return figures(trainer)


def part_alone(rank: int) -> dict[str, Any]:
    """Gradients of a joint step in which only the first process has the part ``a``."""
    data, task = make("joint", 2)
    task.synchronise(gpu=False)
    batches = {name: next(iter(part.dataloader("train"))) for name, part in data.parts.items()}  # type: ignore[attr-defined]
    batch = batches if rank == 0 else {"b": batches["b"]}
    net = torch.nn.parallel.DistributedDataParallel(Step(task), broadcast_buffers=False)
    net(batch).backward()
    return {name: parameter.grad.clone() for name, parameter in task.named_parameters()}  # type: ignore[union-attr]


class Step(torch.nn.Module):
    """The loss of a batch, for DDP to wrap."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Any) -> torch.Tensor:
        return torch.stack(list(self.task.losses(self.task.encode(batch), batch).values())).sum()


def main(rank: int, world: int, port: str, folder: Path) -> None:
    names = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for kind in DATA:
        found[kind] = learn(kind, world, folder)
        found[kind]["test"] = judge(kind, world, folder, torch.load(folder / f"{kind}.pt", weights_only=True))
    found["part_alone"] = part_alone(rank)
    for kind in SHARDED:
        found[f"{kind}, fsdp"] = learn(kind, world, folder, "fsdp")
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
