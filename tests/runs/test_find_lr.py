"""The sweep over learning rates."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from backbones.resnet import ResNet
from datamodules.house import Digits, Scenes
from datamodules.joint import JointData
from runs.find_lr import STEPS, FindRate, Sweep
from runs.trainer import make_trainer
from runs.training import train
from tasks.classification import Classification
from tasks.freezing import Plan
from tasks.joint import Joint
from tasks.recipe import Recipe
from tasks.segmentation import Segmentation


def valley(fall: float, rise: float) -> Sweep:
    """A loss of 2 that falls most steeply at the rate `fall` and rises from `rise` on."""
    rates = [float(rate) for rate in np.logspace(-6, 1, STEPS)]
    losses = [2 - 1.5 / (1 + (fall / rate) ** 2) + (rate / rise) ** 2 for rate in rates]
    return Sweep(rates, losses)


@pytest.mark.parametrize("fall", [1e-4, 1e-3, 1e-2])
def test_the_steepest_fall_is_found(fall: float) -> None:
    found = valley(fall, fall * 100).best()
    assert found is not None
    assert fall / 2 < found < fall * 5  # the average lags behind


def test_a_loss_that_never_falls_has_no_best_rate() -> None:
    rates = [1e-6 * 2**i for i in range(20)]
    assert Sweep(rates, [1.0 + i for i in range(20)]).best() is None
    assert Sweep(rates[:2], [1.0, math.nan]).best() is None


def test_a_broken_loss_ends_the_sweep() -> None:
    assert Sweep([1.0], [math.nan]).broken()
    assert Sweep([1.0] * 30, [1.0] * 10 + [90.0] * 20).broken()
    assert not Sweep([1.0] * 3, [2.0, 1.0, 1.5]).broken()


def run(folder: Path, recipe: Recipe, stop: bool = False, resume: bool = False) -> dict:
    data = Digits(batch_size=16)
    whole = data.read()
    data.read = lambda: {split: items[:64] for split, items in whole.items()}  # type: ignore[method-assign]
    data.prepare()
    seed_everything(0, verbose=False)
    task = Classification(ResNet(18, width=8, stem="small", in_channels=1), data.spec)
    task.recipe = recipe
    folder.mkdir(exist_ok=True)
    begin = task.on_train_epoch_start

    def die() -> None:
        if stop and task.current_epoch == 1:
            raise KeyError("killed")
        begin()

    task.on_train_epoch_start = die  # type: ignore[method-assign]

    def engine(**given: object):
        return make_trainer(max_epochs=2, accelerator="cpu", precision="32-true", **given)

    try:
        train(task, data, folder, lambda: None, engine, [], None, seed=0, resume=resume)
    except KeyError:
        assert stop
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_the_rate_is_used_and_the_search_leaves_no_trace(tmp_path: Path) -> None:
    """The same bits twice, and after a stop; and the same as when the found rate is given by hand."""
    found = run(tmp_path / "found", Recipe(find_lr=True))
    rate = max(base for scheduler in found["lr_schedulers"] for base in scheduler["base_lrs"])
    assert 1e-5 < rate < 1
    assert rate != Recipe().rate
    assert (tmp_path / "found" / "pictures" / "rate.png").is_file()
    run(tmp_path / "broken", Recipe(find_lr=True), stop=True)
    others = [
        run(tmp_path / "again", Recipe(find_lr=True)),
        run(tmp_path / "broken", Recipe(find_lr=True), resume=True),
        run(tmp_path / "given", Recipe(partial(torch.optim.AdamW, lr=rate))),
    ]
    for other in others:
        assert all(torch.equal(value, other["state_dict"][name]) for name, value in found["state_dict"].items())


@pytest.mark.parametrize("plan", [Plan(), Plan(frozen=1.0)])
def test_joint_and_sleeping_tasks_can_be_swept(plan: Plan, tmp_path: Path) -> None:
    data = JointData({"a": Scenes("labels", 12, 48), "b": Scenes("mask", 12, 48)})
    data.prepare()
    task = Joint(ResNet(18, width=8), data.spec, {"a": Classification, "b": Segmentation})
    task.recipe = Recipe(plan=plan, find_lr=True)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = make_trainer(max_epochs=2, accelerator="cpu", precision="32-true", run_dir=tmp_path)
    FindRate(data, tmp_path, 0).setup(trainer, task, "fit")
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(parameter.requires_grad for parameter in task.parameters())
