"""Frozen stages never change, and their features are computed once."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from torch import nn

from backbones.resnet import ResNet
from backbones.timm_features import TimmFeatures
from datamodules.loading.collate import collate
from foundation.structures import Spec
from foundation.targets.kinds import TARGETS
from heads.linear import LinearHead
from heads.rcnn import RCNN
from heads.unet import UNet
from resmet.assembly import build
from tasks.classification import Classification
from tasks.optim.feature_cache import FeatureCache
from tasks.optim.freezing import FreezeSchedule, freeze
from tasks.optim.recipe import Recipe

CONF = Path(__file__).parents[3] / "conf"

NETS = {
    "resnet18": lambda: ResNet(18, width=8),
    "resnet20": lambda: ResNet(20, width=8, stem="small"),
    "sound": lambda: ResNet(18, width=8, ndim=1),
    "mobilenet": lambda: TimmFeatures("mobilenetv3_small_050"),
    "convnext": lambda: TimmFeatures("convnext_atto"),
    "vgg11": lambda: TimmFeatures("vgg11"),
    "densenet": lambda: TimmFeatures("densenet121"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_every_parameter_is_in_one_stage_in_order(name: str) -> None:
    net = NETS[name]()
    staged = [id(p) for part in net.stages.values() for m in part for p in net.get_submodule(m).parameters()]
    assert staged == [id(p) for p in net.parameters()]
    assert len(net.stages) >= 4


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "convnext"])
def test_the_deepest_stages_are_unfrozen_first(name: str) -> None:
    """With n stages unfrozen, the gradient of the deepest features reaches those n and no other."""
    net = NETS[name]().train()
    for unfrozen_stages in range(len(net.stages) + 1):
        freeze(net, unfrozen_stages)
        y = net(torch.randn(2, 3, 64, 64))[max(net.channels)]
        if unfrozen_stages:
            y.square().sum().backward()
        stages = list(net.stages.values())
        for i, modules in enumerate(stages):
            moved = {p.grad is not None for m in modules for p in net.get_submodule(m).parameters()}
            assert moved == {i >= len(stages) - unfrozen_stages}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 6), st.integers(1, 40))
def test_unfrozen_stages_are_never_frozen_again(frozen: float, unfreezing: float, stages: int, epochs: int) -> None:
    schedule = FreezeSchedule(frozen, min(unfreezing, 1 - frozen))
    unfrozen_stages = [schedule.unfrozen_stages(stages, epoch, epochs) for epoch in range(epochs)]
    assert unfrozen_stages == sorted(unfrozen_stages)
    assert set(unfrozen_stages) <= set(range(stages + 1))
    for depth in range(stages):
        first = schedule.unfreeze_epoch(depth, stages, epochs)
        assert all((n >= stages - depth) == (epoch >= first) for epoch, n in enumerate(unfrozen_stages))
    assert schedule.cached_epochs(stages, epochs) == unfrozen_stages.count(0)


UNFROZEN = {
    "scratch": [5, 5, 5, 5, 5, 5, 5, 5],
    "finetune": [5, 5, 5, 5, 5, 5, 5, 5],
    "probe": [0, 0, 0, 0, 0, 0, 0, 0],
    "lp_ft": [0, 0, 0, 0, 5, 5, 5, 5],
    "gradual": [0, 1, 2, 3, 5, 5, 5, 5],
}


@pytest.mark.parametrize("name", UNFROZEN)
def test_the_schedules_of_the_recipes(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"recipe={name}"])
    schedule = build(cfg.recipe).freeze
    assert [schedule.unfrozen_stages(5, epoch, 8) for epoch in range(8)] == UNFROZEN[name]
    assert (cfg.recipe.layer_decay < 1) == (name in ("finetune", "lp_ft", "gradual"))


def test_features_are_cached_while_the_whole_backbone_is_frozen() -> None:
    assert FreezeSchedule(frozen=0.5).cached_epochs(5, 8) == 4
    assert FreezeSchedule(frozen=0.5, cache_features=False).cached_epochs(5, 8) == 0


@pytest.mark.parametrize("wrong", [{"frozen": 1.5}, {"unfreezing": -0.1}, {"frozen": 0.7, "unfreezing": 0.7}])
def test_fractions_out_of_range_are_refused(wrong: dict) -> None:
    with refused("config.out_of_range"):
        FreezeSchedule(**wrong)


class Dropping(ResNet):
    """A ResNet with dropout, as some backbones have."""

    def __init__(self) -> None:
        super().__init__(18, width=8)
        self.layer2.append(nn.Dropout(0.5))


def test_a_frozen_stage_does_not_change_and_train_does_not_unfreeze_it() -> None:
    torch.manual_seed(0)
    task = Classification(Dropping(), Spec(2, 3, ("a", "b"), mean=(128.0,) * 3, std=(64.0,) * 3))
    task.use_recipe(Recipe(freeze=FreezeSchedule(frozen=0.5)))
    task.freeze_stages(0, 4)
    before = {name: value.clone() for name, value in task.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(task.parameters(), weight_decay=0.5)
    task.train()
    batch = {"input": torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8), "target": torch.tensor([0, 1, 0, 1])}
    features = task.encode(batch)[32]
    task.losses(task.encode(batch), batch)["cross_entropy"].backward()
    optimizer.step()
    assert torch.equal(features, task.encode(batch)[32])
    assert all(torch.equal(value, before[name]) for name, value in task.backbone.state_dict().items())
    task.freeze_stages(2, 4)
    assert all(module.training for module in task.modules() if not list(module.parameters(recurse=False)))
    task.losses(task.encode(batch), batch)["cross_entropy"].backward()
    optimizer.step()
    moved = [name for name, value in task.backbone.state_dict().items() if not torch.equal(value, before[name])]
    assert len(moved) == len(before)


def a_batch(count: int = 4, side: int = 64) -> dict:
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return collate([(image, 0, f"item{i}") for i, image in enumerate(images)], TARGETS["label"])


def test_cached_features_give_equal_predictions() -> None:
    task = Classification(ResNet(18, width=8), Spec(2, 3, ("a", "b"))).eval()
    batch = a_batch()
    with torch.inference_mode():
        plain = task(batch)
        task.feature_cache = FeatureCache(10**6)
        first, second = task(batch), task(batch)
        task.backbone = None  # cached features need no backbone
        third = task(batch)
    for predictions in (first, second, third):
        assert all(torch.equal(a["probabilities"], b["probabilities"]) for a, b in zip(plain, predictions, strict=True))


@pytest.mark.parametrize("head", [LinearHead, UNet, RCNN])
def test_a_head_selects_the_features_that_it_needs(head: type[nn.Module]) -> None:
    net = ResNet(18, width=8).eval()
    made = head(net.channels, 3).eval()
    batch = a_batch()
    with torch.inference_mode():
        features = net(batch["input"].float())
        needed = made.select(features)
        more = (batch,) if head is RCNN else ()
        whole, part = made(features, *more), made(needed, *more)
    assert set(needed) <= set(features)
    if head is RCNN:
        whole, part = whole[0][0]["boxes"], part[0][0]["boxes"]
    else:
        assert head is UNet or needed[32].shape[2:] == (1, 1)
    assert torch.equal(whole, part)


def test_the_cache_has_a_budget_and_distinguishes_padding() -> None:
    batch, features = a_batch(), {32: torch.randn(4, 64, 2, 2)}
    cache = FeatureCache(2 * 64 * 4 * 4)
    cache.add(batch, features)
    assert len(cache.items) == 2
    assert cache.get(batch) is None
    cache = FeatureCache(10**6)
    cache.add(batch, features)
    found = cache.get(batch)
    assert found is not None
    assert torch.equal(found[32], features[32])
    assert cache.get(a_batch(side=96)) is None
