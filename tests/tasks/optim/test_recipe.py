"""Parameter groups, schedule and learning rates."""

from functools import partial

import pytest
import torch
from refusals import refused

from backbones.resnet import ResNet
from foundation.structures import Spec
from tasks.classification import Classification
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe
from tasks.optim.schedule import lr_factor


def task() -> Classification:
    return Classification(ResNet(18, width=8), Spec(2, 3, ("a", "b")))


def test_norms_and_biases_do_not_decay_and_every_parameter_is_in_one_group() -> None:
    net = task()
    optimizer = Recipe(partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1))(net, 10, 1)["optimizer"]
    found = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(map(id, found))) == len(list(net.parameters()))
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_the_learning_rate_falls_towards_the_stem() -> None:
    optimizer = Recipe(partial(torch.optim.SGD, lr=0.8), layer_decay=0.5)(task(), 10, 1)["optimizer"]
    rates = {group["name"].split(",")[0]: group["initial_lr"] for group in optimizer.param_groups}
    assert rates == {"stem": 0.025, "layer1": 0.05, "layer2": 0.1, "layer3": 0.2, "layer4": 0.4, "head": 0.8}


@pytest.mark.parametrize(
    "freeze", [FreezeSchedule(), FreezeSchedule(frozen=1.0), FreezeSchedule(frozen=0.5), FreezeSchedule(unfreezing=0.5)]
)
def test_frozen_stages_are_in_the_optimizer(freeze: FreezeSchedule) -> None:
    counts = [
        len(Recipe(freeze=schedule)(task(), 10, 4)["optimizer"].param_groups) for schedule in (FreezeSchedule(), freeze)
    ]
    assert counts[0] == counts[1]


def test_the_schedule_warms_up_then_decays() -> None:
    rates = [lr_factor(step, 100, 10, 0.01) for step in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[100] == pytest.approx(0.01)


def test_a_stage_that_is_unfrozen_late_warms_up() -> None:
    early, late = ([lr_factor(step, 100, 10, 0.01, start) for step in range(100)] for start in (0, 50))
    assert late[:50] == [0.0] * 50
    assert all(a <= b for a, b in zip(late, early, strict=True))
    assert late[50] == pytest.approx(early[50] / 11)
    assert late[60:] == early[60:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": 2.0},
        {"min_lr_ratio": -0.1},
        {"gradient_clip_norm": -1.0},
        {"layer_decay": -1.0},
        {"layer_decay": 0.0},
        {"layer_decay": 5.0},
        {"deep_head_lr_scale": 2.0},
        {"ema": 1.0},
        {"lr_scaling": "x"},
        {"base_batch_size": 0},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict) -> None:
    key = next(iter(wrong))
    with refused("recipe.unknown_lr_scaling" if key == "lr_scaling" else "config.out_of_range") as refusal:
        Recipe(**wrong)
    assert f"recipe.{key}" in str(refusal.value)


@pytest.mark.parametrize(
    ("optimizer", "scaling", "base", "factor"),
    [
        (torch.optim.SGD, "auto", None, 4),
        (torch.optim.AdamW, "auto", None, 2),
        (torch.optim.Adam, "auto", None, 2),
        (torch.optim.SGD, "sqrt", None, 2),
        (torch.optim.AdamW, "linear", 64, 0.5),
        (torch.optim.SGD, "none", 1, 1),
    ],
)
def test_learning_rates_grow_with_the_items_per_step(
    optimizer: type, scaling: str, base: int | None, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 items per step of batches of 8: two processes that accumulate two batches."""
    recipe = Recipe(partial(optimizer, lr=0.1), lr_scaling=scaling, base_batch_size=base)  # type: ignore[arg-type]
    notes: list[str] = []
    monkeypatch.setattr("tasks.optim.recipe.log_on_rank_zero", notes.append)
    groups = recipe(task(), 10, 1, batch_size=32, requested=8)["optimizer"].param_groups
    assert all(group["initial_lr"] == pytest.approx(0.1 * factor) for group in groups)
    wanted = f"note: learning rate 0.1 x {factor:.4g}, for 32 items per step instead of {base or 8}"
    assert notes == ([wanted] if factor != 1 else [])


def test_a_found_learning_rate_belongs_to_its_batch_size() -> None:
    found = Recipe(partial(torch.optim.SGD, lr=0.1)).with_lr(0.3, batch_size=16)
    assert found(task(), 10, 1, batch_size=16, requested=8)["optimizer"].param_groups[0]["initial_lr"] == 0.3
    assert found(task(), 10, 1, batch_size=32, requested=8)["optimizer"].param_groups[0]["initial_lr"] == 0.6
