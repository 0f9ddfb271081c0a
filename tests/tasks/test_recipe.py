"""Optimizer groups and schedule."""

from functools import partial

import pytest
import torch

from backbones.resnet import ResNet
from structures import InputError, Spec
from tasks.classification import Classification
from tasks.recipe import Recipe, schedule


def test_norms_and_biases_do_not_decay_and_nothing_is_lost() -> None:
    task = Classification(ResNet(18, width=8), Spec(2, 3, ("a", "b")))
    recipe = Recipe(partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1), backbone_rate=0.1)
    optimizer = recipe(task, 10)["optimizer"]
    found = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(map(id, found))) == len(list(task.parameters()))
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
        assert group["initial_lr"] == pytest.approx(0.001 if group["name"].startswith("backbone") else 0.01)


def test_the_rate_climbs_then_falls() -> None:
    rates = [schedule(step, 100, 10, 0.01) for step in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[100] == pytest.approx(0.01)


@pytest.mark.parametrize("wrong", [{"warmup": 2.0}, {"floor": -0.1}, {"clip": -1.0}, {"backbone_rate": -1.0}])
def test_refusals(wrong: dict) -> None:
    with pytest.raises(InputError, match="recipe."):
        Recipe(**wrong)
