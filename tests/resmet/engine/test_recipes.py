"""Recipes in whole runs: interrupted and resumed, averaged, in several processes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from run_files import assert_same_runs, read_checkpoint, read_metrics
from small_runs import Kill, Killed, digits, make_task, train_small

from datamodules.synthetic import Scenes
from datamodules.transforms.augment import Augment
from resmet.assembly import load_task
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe

pytestmark = pytest.mark.slow

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)

DATA = {
    "classification": partial(digits, batch_size=15),  # 40 items: the last batch is smaller
    "crops": partial(digits, batch_size=15, augment=Augment(translate=0.2, degrees=10.0, random_crop=16)),
    "segmentation": partial(Scenes, target="mask", count=12, size=48),
}


class Watch(Callback):
    """Records which weights changed in every epoch, and how often the backbone ran in training."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.passes: list[int] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.hook = pl_module.backbone.register_forward_hook(self.count)

    def on_train_end(self, trainer, pl_module) -> None:
        self.hook.remove()  # before the test

    def count(self, *_: object) -> None:
        self.passes[-1] += 1

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.passes.append(0)
        self.before = {name: value.clone() for name, value in pl_module.backbone.state_dict().items()}

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        after = pl_module.backbone.state_dict()
        self.moved.append({name for name, value in self.before.items() if not torch.equal(value, after[name])})


def fit(folder: Path, recipe: Recipe, kind: str = "classification", stop: int | None = None, **options: Any) -> Watch:
    """Trains four epochs and returns what happened in them; the process is killed before the epoch `stop`."""
    watch = Watch()
    mixing = {"mixup": 0.2, "cutmix": 1.0} if options.pop("mix", False) else {}
    make = partial(make_task, "segmentation" if kind == "segmentation" else "classification", stem="small", **mixing)
    options = {"max_epochs": 4} | options
    try:
        train_small(DATA[kind], folder, [watch, Kill(epoch=stop)], recipe=recipe, make=make, **options)
    except Killed:
        assert stop is not None
    return watch


RECIPES = {
    "probe": (Recipe(freeze=FreezeSchedule(frozen=1.0)), 2),
    "lp_ft, while frozen": (Recipe(freeze=FreezeSchedule(frozen=0.5), layer_decay=0.5), 1),
    "lp_ft, unfrozen": (Recipe(freeze=FreezeSchedule(frozen=0.5), layer_decay=0.5), 3),
    "gradual": (Recipe(freeze=FreezeSchedule(unfreezing=0.75), layer_decay=0.5), 2),
    "ema": (Recipe(ema=0.9), 2),
    "all": (Recipe(SGD, freeze=FreezeSchedule(0.25, 0.5), layer_decay=0.7, ema=0.5), 2),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_resumed_equals_uninterrupted_bit_for_bit(kind: str, name: str, tmp_path: Path) -> None:
    recipe, stop = RECIPES[name]
    mix = kind == "classification"
    fit(tmp_path / "whole", recipe, kind, mix=mix)
    fit(tmp_path / "broken", recipe, kind, stop, mix=mix)
    assert not (tmp_path / "broken" / "metrics.json").exists()
    fit(tmp_path / "broken", recipe, kind, mix=mix, resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "broken")


def test_a_probe_trains_the_head_only_and_computes_features_once(tmp_path: Path) -> None:
    watch = fit(tmp_path / "run", Recipe(freeze=FreezeSchedule(frozen=1.0)))
    assert watch.moved == [set()] * 4
    assert watch.passes == [6, 0, 0, 0]  # 3 batches of training items and 3 of validation items


def test_without_a_cache_features_are_computed_every_epoch(tmp_path: Path) -> None:
    watch = fit(tmp_path / "run", Recipe(freeze=FreezeSchedule(frozen=1.0, cache_features=False)))
    assert watch.moved == [set()] * 4
    assert watch.passes == [6] * 4


def test_random_crops_are_never_cached(tmp_path: Path) -> None:
    """Whole images might not fit in memory."""
    watch = fit(tmp_path / "run", Recipe(freeze=FreezeSchedule(frozen=1.0)), "crops")
    assert watch.passes == [6] * 4


def test_gradual_unfreezes_the_deepest_first(tmp_path: Path) -> None:
    watch = fit(tmp_path / "run", Recipe(freeze=FreezeSchedule(unfreezing=1.0)), max_epochs=5)
    tops = [sorted({name.split(".")[0] for name in moved}) for moved in watch.moved]
    assert tops == [
        [],
        ["layer4"],
        ["layer3", "layer4"],
        ["layer2", "layer3", "layer4"],
        ["layer1", "layer2", "layer3", "layer4"],
    ]
    assert watch.passes[0] == 6
    assert all(count > 3 for count in watch.passes[1:])


def test_the_average_is_validated_and_saved_as_the_best(tmp_path: Path) -> None:
    fit(tmp_path / "run", Recipe(ema=0.95), max_epochs=2)
    best = read_checkpoint(tmp_path / "run", "best")
    content = read_checkpoint(tmp_path / "run")
    average = next(state for state in content["callbacks"].values() if "average" in state)["average"]
    raw = content["state_dict"]
    assert best["epoch"] in (0, 1)
    if best["epoch"] == 1:
        assert all(torch.equal(best["state_dict"][key], value) for key, value in average.items())
    assert not torch.equal(best["state_dict"]["backbone.conv1.weight"], raw["backbone.conv1.weight"])
    assert set(average) == set(raw)


@pytest.mark.parametrize("recipe", ["probe", "gradual"])
def test_frozen_stages_train_under_ddp_without_an_option(run, tmp_path: Path, image_folder: Path, recipe: str) -> None:
    """Both ranks train with the learning rate that rank 0 found."""
    data = ("data=image_folder", f"data.root={image_folder}", "data.batch_size=4", "data.size=32", "backbone.width=8")
    command = (*data, "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=4", f"recipe={recipe}")
    done = run("train", *command, "recipe.ema=0.9", f"recipe.find_lr={recipe == 'gradual'}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("learning rate: ") == (recipe == "gradual")
    assert read_metrics(tmp_path / "run")["epochs"] == 4
    best = load_task(tmp_path / "run" / "checkpoints" / "best.ckpt").backbone.state_dict()
    end = read_checkpoint(tmp_path / "run")["state_dict"]
    assert all(value.isfinite().all() for value in end.values())
    same = all(torch.equal(value, end[f"backbone.{name}"]) for name, value in best.items())
    assert same == (recipe == "probe")
