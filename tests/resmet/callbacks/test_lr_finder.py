"""The learning-rate range test."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_files import assert_same_weights, read_checkpoint
from small_runs import SMALL_UNET, Kill, Killed, train_small

from backbones.resnet import ResNet
from datamodules.joint import JointDataModule
from datamodules.synthetic import Scenes
from resmet.callbacks.lr_finder import STEPS, LRFinder, RangeTest
from resmet.engine.trainer import TrainerConfig
from tasks.classification import Classification
from tasks.joint import Joint
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe
from tasks.segmentation import Segmentation


def valley(fall: float, rise: float) -> RangeTest:
    """Returns a loss of 2 that falls most steeply at the learning rate `fall` and rises from `rise`."""
    rates = [float(rate) for rate in np.logspace(-6, 1, STEPS)]
    losses = [2 - 1.5 / (1 + (fall / rate) ** 2) + (rate / rise) ** 2 for rate in rates]
    return RangeTest(rates, losses)


@pytest.mark.parametrize("fall", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_lies_in_the_steepest_fall(fall: float) -> None:
    found = valley(fall, fall * 100).suggestion()
    assert found is not None
    assert fall / 2 < found < fall * 5


RATES = [float(rate) for rate in np.logspace(-6, 1, STEPS)]
REAL = {
    "images of clothes with mixup and CutMix": (
        (3e-4, 2e-3),
        """
2.43 2.39 2.40 2.37 2.38 2.41 2.40 2.45 2.39 2.31 2.41 2.36 2.22 2.51 2.34 2.40 2.45 2.34 2.49 2.44 2.42
2.34 2.33 2.38 2.49 2.43 2.39 2.36 2.31 2.41 2.35 2.15 2.47 2.39 2.34 2.40 2.30 2.39 2.42 2.39 2.33 2.36
2.36 2.34 2.35 2.35 2.30 2.23 2.28 2.35 2.21 2.23 2.26 2.21 2.27 2.30 2.17 2.25 2.40 2.24 2.40 2.34 2.35
2.39 2.36 2.37 2.32 2.46 2.48 2.71 2.50 2.56 2.48 2.47 2.63 2.48 2.57 2.46 2.44 2.63 2.56 2.60 2.60 2.60
2.36 2.37 2.30 2.32 2.36 2.31 2.40 2.36 2.36 2.40 2.39 2.38 2.50 2.66 2.61 2.56 2.38 2.60 4.93 2.62 3.68
4.04 6.09 6.15 13.34 20.61 22.33 6.90 34.79
        """,
    ),
    "finetuned digits": (
        (3e-3, 2e-2),
        """
2.25 2.14 2.14 1.87 1.84 2.01 1.89 2.09 1.75 2.00 2.19 2.09 2.06 2.01 2.01 2.01 2.21 2.14 2.14 2.19 1.91
1.93 1.98 1.90 1.88 2.16 2.16 2.07 2.09 2.24 2.13 2.13 1.86 1.84 2.00 1.88 2.07 1.74 1.98 2.17 2.06 2.03
1.99 1.98 1.96 2.16 2.08 2.09 2.09 1.84 1.85 1.87 1.86 1.74 2.01 2.01 1.85 1.89 2.09 1.83 1.83 1.60 1.66
1.76 1.59 1.70 1.43 1.44 1.80 1.47 1.35 1.59 1.38 1.36 1.29 1.60 1.64 1.13 1.63 1.88 1.08 1.62 1.67 1.61
1.30 1.02 3.68 2.20 1.70 2.20 2.19 2.37 2.87 2.21 2.27 3.08 2.37 2.11 3.39 1.83 1.66 1.46 2.01 4.51 3.91
2.69 3.24 2.67 2.42 2.90 3.78 3.41 4.92 3.42 4.73 3.25 33.93
        """,
    ),
}
"""Losses of tests with AdamW and with SGD that vary more at first than they fall later, and the learning rates that train well."""


@pytest.mark.parametrize("name", REAL)
def test_noise_at_the_start_is_not_a_fall(name: str) -> None:
    (least, most), text = REAL[name]
    losses = [float(word) for word in text.split()]
    found = RangeTest(RATES[: len(losses)], losses).suggestion()
    assert found is not None
    assert least < found < most


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-4, 1e-3, 1e-2]), st.floats(0.3, 2.0), st.floats(0.0, 0.1))
def test_noise_does_not_move_the_valley(seed: int, fall: float, depth: float, noise: float) -> None:
    """The suggestion is right within a factor, and never among learning rates that change nothing."""
    drawn = noise * np.random.default_rng(seed).standard_normal(STEPS)
    losses = [2 - depth / (1 + (fall / r) ** 2) + (r / fall / 100) ** 2 + e for r, e in zip(RATES, drawn, strict=True)]
    found = RangeTest(RATES, losses).suggestion()
    assert found is not None
    assert fall / 2 < found < fall * 10


def test_noise_alone_rarely_leads_to_a_suggestion() -> None:
    drawn = 2.3 + 0.1 * np.random.default_rng(0).standard_normal((100, STEPS))
    assert sum(RangeTest(RATES, losses).suggestion() is not None for losses in drawn.tolist()) <= 10


def test_a_later_valley_must_be_deeper() -> None:
    losses = [2 - (0.9 if 1e-3 < rate < 1e-2 else 1.0 if 0.1 < rate < 1 else 0) for rate in RATES]
    found = RangeTest(RATES, losses).suggestion()
    assert found is not None
    assert 5e-4 < found < 3e-3


def test_a_loss_that_never_falls_leads_to_no_suggestion() -> None:
    rates = [1e-6 * 2**i for i in range(20)]
    assert RangeTest(rates, [1.0 + i for i in range(20)]).suggestion() is None
    assert RangeTest(rates[:2], [1.0, math.nan]).suggestion() is None


def test_divergence_ends_the_test() -> None:
    assert RangeTest([1.0], [math.nan]).diverged()
    assert RangeTest([1.0] * 30, [1.0] * 10 + [90.0] * 20).diverged()
    assert not RangeTest([1.0] * 3, [2.0, 1.0, 1.5]).diverged()


@pytest.mark.slow
def test_the_suggestion_is_used_and_the_test_leaves_no_trace(tmp_path: Path) -> None:
    """Runs are equal bit for bit: interrupted and resumed, and with the suggested learning rate configured."""
    train_one = partial(train_small, "classification", max_epochs=2)
    first = train_one(tmp_path / "first", recipe=Recipe(find_lr=True))
    lr = max(base for scheduler in read_checkpoint(first)["lr_schedulers"] for base in scheduler["base_lrs"])
    assert 1e-5 < lr < 1
    assert lr != Recipe().lr
    assert (tmp_path / "first" / "pictures" / "rate.png").is_file()
    with pytest.raises(Killed):
        train_one(tmp_path / "broken", [Kill(epoch=1)], recipe=Recipe(find_lr=True))
    others = [
        train_one(tmp_path / "broken", recipe=Recipe(find_lr=True), resume=True),
        train_one(tmp_path / "given", recipe=Recipe(partial(torch.optim.AdamW, lr=lr))),
    ]
    for other in others:
        assert_same_weights(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [FreezeSchedule(), FreezeSchedule(frozen=1.0)])
def test_joint_and_frozen_tasks_can_be_tested(freeze: FreezeSchedule, tmp_path: Path) -> None:
    scenes = partial(Scenes, count=12, size=48, batch_size=2)
    data = JointDataModule({"a": scenes(target="labels"), "b": scenes(target="mask")})
    data.setup("fit")
    tasks = {"a": Classification, "b": partial(Segmentation, head=SMALL_UNET)}
    task = Joint(ResNet(18, width=8), data.spec, tasks)
    task.use_recipe(Recipe(freeze=freeze, find_lr=True))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = TrainerConfig(2, "cpu", precision="32-true").build(tmp_path)
    LRFinder(data, tmp_path, 0).setup(trainer, task, "fit")
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(parameter.requires_grad for parameter in task.parameters())
