"""Small runs of every task, whole or cut off."""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, seed_everything

from backbones.resnet import ResNet
from datamodules.base.datamodule import DataModule
from datamodules.joint import JointDataModule
from datamodules.synthetic import Digits, Scenes, Tones
from datamodules.transforms.augment import Augment
from heads.rcnn import RCNN
from heads.unet import UNet
from resmet.callbacks.checkpoint import Saving
from resmet.checkpoints.resume import recall
from resmet.engine.fit import train
from resmet.engine.trainer import make_trainer
from tasks.audio import Audio
from tasks.base import Task
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.joint import Joint
from tasks.optim.recipe import Recipe
from tasks.segmentation import Segmentation

SMALL = partial(RCNN, width=32, hidden=64, sampled=32, proposals=50)
SMALL_UNET = partial(UNet, widths=(16, 16, 16, 16, 16))


def digits(**more: object) -> Digits:
    """Forty of a split, changed at random."""
    data = Digits(batch_size=8, augment=Augment(shift=0.2, rotate=10.0), **more)
    whole = data.read()
    data.read = lambda: {split: items[:40] for split, items in whole.items()}  # type: ignore[method-assign]
    return data


def joint(**more: object) -> JointDataModule:
    return JointDataModule(
        {"a": Scenes("boxes", 10, 64, batch_size=3, **more), "b": Scenes("mask", 12, 64, batch_size=4, **more)}
    )


DATA: dict[str, Callable[..., DataModule]] = {
    "classification": digits,
    "detection": lambda **more: Scenes("boxes", 12, 64, batch_size=3, **more),
    "segmentation": lambda **more: Scenes("mask", 12, 64, batch_size=3, **more),
    "audio": lambda **more: Tones(24, batch_size=8, **more),
    "joint": joint,
}


def make_task(kind: str, data: DataModule) -> Task:
    seed_everything(0, verbose=False)
    net = ResNet(18, width=8, ndim=data.spec.ndim, in_channels=data.spec.channels)
    if kind == "joint":
        return Joint(net, data.spec, {"a": partial(Detection, head=SMALL), "b": partial(Segmentation, head=SMALL_UNET)})
    return {
        "classification": Classification,
        "detection": partial(Detection, head=SMALL),
        "segmentation": partial(Segmentation, head=SMALL_UNET),
        "audio": Audio,
    }[kind](net, data.spec)


def nothing() -> None:
    """The folder is there already."""


class Killed(Exception):
    """What ends the work of a process in the midst of it."""


class Kill(Callback):
    """End the work at the `step`-th step, or at the `item`-th batch of the `validation`-th validation, by an error or a signal."""

    def __init__(self, step: int | None = None, validation: int | None = None, signum: int | None = None) -> None:
        self.step, self.validation, self.signum = step, validation, signum
        self.judged = 0

    def strike(self) -> None:
        if self.signum is None:
            raise Killed
        signal.raise_signal(self.signum)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.fit_loop.total_batch_idx == self.step:
            self.strike()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        if trainer.current_epoch == self.validation and batch_idx == 0 and trainer.state.fn == "fit":
            self.strike()


def run(
    kind: str | Callable[..., DataModule],
    folder: Path,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    epochs: int = 3,
    recipe: Recipe | None = None,
    every: str = "1h",
    accumulate: int = 1,
    batch_size: str | None = None,
    num_workers: int = 0,
    budget: float | None = None,
    limit: int | None = None,
    precision: str = "32-true",
    **data_keys: object,
) -> Path:
    """Train in `folder`; one that is gone on with starts from weights and random numbers that must not matter."""
    data = (DATA[kind] if isinstance(kind, str) else kind)(**data_keys)
    data.num_workers = num_workers
    if resume:
        recall(folder, data)
    data.prepare()
    task = make_task(kind if isinstance(kind, str) else "classification", data)
    task.recipe = recipe or task.recipe
    if resume:
        torch.manual_seed(99)
        for parameter in task.parameters():
            parameter.data.normal_()
    folder.mkdir(exist_ok=True)

    def engine(**more: object):
        return make_trainer(
            **{
                "max_epochs": epochs,
                "accelerator": "cpu",
                "precision": precision,
                "accumulate": accumulate,
                "batch_size": batch_size,
                "limit": limit,
            }
            | more
        )

    train(task, data, folder, nothing, engine, [*callbacks, Saving(every=every)], None, 0, resume, budget)
    return folder
