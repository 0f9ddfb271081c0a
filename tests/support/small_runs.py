"""Small training runs of every task, complete or interrupted."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, seed_everything
from omegaconf import DictConfig

from backbones.resnet import ResNet
from datamodules.base.datamodule import DataModule
from datamodules.joint import JointDataModule
from datamodules.synthetic import Digits, Scenes, Tones
from datamodules.transforms.augment import Augment
from foundation.durations import Clock
from foundation.run_state import RunState
from heads.rcnn import RCNN
from heads.rcnn_options import FPNOptions, SamplingOptions
from heads.unet import UNet
from resmet.callbacks.checkpoint import CheckpointWriter
from resmet.checkpoints.resume import restore_exclusions
from resmet.commands import train as train_command
from resmet.engine.fit import RunOptions, train
from resmet.engine.trainer import TrainerConfig
from tasks.audio import Audio
from tasks.base import Task
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.joint import Joint
from tasks.optim.recipe import Recipe
from tasks.segmentation import Segmentation

ROOT = Path(__file__).parents[2]

SMALL_RCNN = partial(RCNN, fpn=FPNOptions(32), representation_size=64, sampling=SamplingOptions(50, 32))
SMALL_UNET = partial(UNet, widths=(16, 16, 16, 16, 16))


SHIFT_AND_ROTATE = Augment(translate=0.2, degrees=10.0)


def digits(count: int = 40, **options: Any) -> Digits:
    """The first `count` digits of every split, augmented."""
    data = Digits(**{"batch_size": 8, "augment": SHIFT_AND_ROTATE} | options)
    read = data.read
    data.read = lambda: {split: items[:count] for split, items in read().items()}  # type: ignore[method-assign]
    return data


def joint(**options: Any) -> JointDataModule:
    """Two parts of different length: the shorter one starts again within an epoch."""
    boxes = Scenes(target="boxes", count=13, size=64, **{"batch_size": 3} | options)
    return JointDataModule({"a": boxes, "b": Scenes(target="mask", count=12, size=64, **{"batch_size": 4} | options)})


DATA: dict[str, Callable[..., DataModule]] = {
    "classification": digits,
    "detection": partial(Scenes, target="boxes", count=12, size=64, batch_size=3),
    "segmentation": partial(Scenes, target="mask", count=12, size=64, batch_size=3),
    "audio": partial(Tones, count=24, batch_size=8),
    "joint": joint,
}

TASKS: dict[str, Callable[..., Task]] = {
    "classification": Classification,
    "multilabel": Classification,
    "detection": partial(Detection, head=SMALL_RCNN),
    "segmentation": partial(Segmentation, head=SMALL_UNET),
    "audio": Audio,
}
TASKS["joint"] = partial(Joint, tasks={"a": TASKS["detection"], "b": TASKS["segmentation"]})


def make_task(kind: str, data: DataModule, stem: str = "large", **options: Any) -> Task:
    """Returns a task on a narrow ResNet-18, with the weights of seed 0; `data` is set up already."""
    seed_everything(0, verbose=False)
    net = ResNet(18, width=8, stem=stem, ndim=data.spec.ndim, in_channels=data.spec.channels)
    return TASKS[kind](net, data.spec, **options)


class Killed(Exception):
    """Ends training as abruptly as a killed process."""


class Kill(Callback):
    """Ends training before the `step`-th step, the `epoch`-th epoch or the `validation`-th validation: raises `Killed`, or sends a signal."""

    def __init__(
        self,
        step: int | None = None,
        validation: int | None = None,
        epoch: int | None = None,
        signum: int | None = None,
    ) -> None:
        self.step, self.validation, self.epoch, self.signum = step, validation, epoch, signum

    def strike(self) -> None:
        if self.signum is None:
            raise Killed
        signal.raise_signal(self.signum)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            self.strike()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.fit_loop.total_batch_idx == self.step:
            self.strike()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        if trainer.current_epoch == self.validation and batch_idx == 0 and trainer.state.fn == "fit":
            self.strike()


def train_small(
    kind: str | Callable[[], DataModule],
    folder: Path,
    callbacks: Sequence[Callback] = (),
    *,
    resume: bool = False,
    recipe: Recipe | None = None,
    checkpoint_every: str = "1h",
    time_budget: float | None = None,
    make: Callable[[DataModule], Task] | None = None,
    num_workers: int = 0,
    clock: Clock | None = None,
    **trainer_options: Any,
) -> Path:
    """Trains in `folder` and returns it: 3 epochs on CPU, with the small data and task of `kind` unless others are given.

    Args:
        kind: A key of ``DATA``, or a callable that returns a data module, on which a classification is trained.
        resume: Whether to resume the training in `folder`. The weights and the random state of this process are
            destroyed first, so that nothing but the checkpoint can matter.
        make: Returns the task on a data module that is set up; by default ``make_task(kind, data)``.
        clock: Where the run reads the time; by default the machine's clock.
        trainer_options: Arguments of `TrainerConfig`.
    """
    data = (DATA[kind] if isinstance(kind, str) else kind)()
    data.num_workers = num_workers
    if resume:
        restore_exclusions(folder, data)
    data.setup("fit")
    task = make(data) if make else make_task(kind if isinstance(kind, str) else "classification", data)
    task.use_recipe(recipe or task.recipe)
    task.run_state = RunState(clock or Clock())
    if resume:
        torch.manual_seed(99)
        for parameter in task.parameters():
            parameter.data.normal_()
    folder.mkdir(exist_ok=True)
    trainer = TrainerConfig(**{"max_epochs": 3, "accelerator": "cpu", "precision": "32-true"} | trainer_options)
    if not any(isinstance(callback, CheckpointWriter) for callback in callbacks):
        callbacks = [*callbacks, CheckpointWriter(every=checkpoint_every)]
    train(task, data, RunOptions(folder, trainer, callbacks, resume=resume, time_budget=time_budget))
    return folder


RCNN_OVERRIDES = (
    "head.fpn.out_channels=32",
    "head.representation_size=32",
    "head.sampling.batch_size_per_image=16",
    "head.sampling.post_nms_top_n=30",
)
UNET_OVERRIDES = ("head.widths=[16,16,16,16,16]",)
OVERRIDES: dict[str, tuple[str, ...]] = {
    "classification": ("task=classification",),
    "multilabel": ("task=classification", "data=multilabel", "data.count=10", "data.size=48"),
    "detection": ("task=detection", "data.count=10", "data.size=64", *(f"task.{key}" for key in RCNN_OVERRIDES)),
    "segmentation": ("task=segmentation", "data.count=10", "data.size=48", *(f"task.{key}" for key in UNET_OVERRIDES)),
    "audio": ("task=audio", "data.count=10", "data.batch_size=4"),
    "joint": (
        *("task=joint", "data.parts.shapes.count=10", "data.parts.regions.count=10", "data.parts.shapes.size=48"),
        *(f"task.tasks.shapes.{key}" for key in RCNN_OVERRIDES),
        *(f"task.tasks.regions.{key}" for key in UNET_OVERRIDES),
    ),
}
"""Overrides that make data and head of a task small."""


LIMITS = tuple(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))


def compose_small(*overrides: str) -> DictConfig:
    """Returns the config of ``train.py`` for two steps on CPU."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["trainer=cpu", "trainer.max_epochs=1", *LIMITS, *overrides])


@contextmanager
def restored_log() -> Iterator[None]:
    """Closes the log that a run in this process opens."""
    logger = logging.getLogger("resmet")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def run_train(*overrides: str) -> None:
    """Does what ``python train.py OVERRIDES`` does, in this process."""
    with restored_log():
        train_command.run(compose_small(*overrides))
