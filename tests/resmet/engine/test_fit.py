"""Whole runs on small nets, with edge cases of data and Trainer."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_files import write_image
from refusals import refused
from run_files import read_checkpoint, read_metrics
from small_runs import DATA, joint, make_task, train_small

from datamodules.formats.image_folder import ImageFolder
from datamodules.synthetic import Scenes
from foundation.structures import InputError
from resmet.callbacks.ema import WeightAveraging
from resmet.engine.trainer import TrainerConfig

pytestmark = pytest.mark.slow


def test_checkpoints_hold_plain_values_and_one_backbone(tmp_path: Path) -> None:
    run = train_small("joint", tmp_path / "run", max_epochs=1)
    for name in ("best", "last"):
        content = read_checkpoint(run, name)
        assert {"state_dict", "config", "spec"} <= set(content)
        assert sum(key.endswith("backbone.conv1.weight") for key in content["state_dict"]) == 1


def test_other_data_is_not_resumed(tmp_path: Path) -> None:
    train_small("classification", tmp_path / "run", max_epochs=1)
    with refused("checkpoint.other_data"):
        train_small(partial(Scenes, target="labels", count=12, size=64), tmp_path / "run", resume=True)


def folder_run(root: Path, run: Path, **options: Any) -> dict:
    """Trains an epoch on an image folder and returns its metrics.json."""
    train_small(partial(ImageFolder, str(root), **options), run, max_epochs=1)
    return read_metrics(run)


def test_fewer_images_than_a_batch_still_take_a_step(image_folder: Path, tmp_path: Path) -> None:
    assert folder_run(image_folder, tmp_path / "run", batch_size=64)["steps"] == 1


def test_a_last_batch_of_one(image_folder: Path, tmp_path: Path) -> None:
    """Ten images in batches of nine at 32 pixels: BatchNorm of a single value would be an error."""
    assert folder_run(image_folder, tmp_path / "run", batch_size=9)["steps"] == 1


def test_no_test_split_means_no_test_score(image_folder: Path, tmp_path: Path) -> None:
    for path in (image_folder / "test").rglob("*.png"):
        path.unlink()
    result = folder_run(image_folder, tmp_path / "run")
    assert result["test"] == {}
    assert result["score"] == result["val"]["score"]


def test_one_image_a_class_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / "data" / name / "1.png")
    with refused("data.empty_split"):
        folder_run(tmp_path / "data", tmp_path / "run")


def test_multilabel(tmp_path: Path) -> None:
    train_small(partial(Scenes, target="labels", count=20, size=64), tmp_path, max_epochs=1)
    result = read_metrics(tmp_path)
    assert {"accuracy", "f1", "average_precision", "score"} <= set(result["test"])


def test_labels_with_probability_above_one_half_are_predicted() -> None:
    data = Scenes(target="labels", count=20, size=64)
    data.setup("fit")
    predictions = make_task("classification", data).eval()(next(iter(data.dataloader("test"))))
    assert all(np.array_equal((p["probabilities"] >= 0.5).nonzero().flatten(), p["labels"]) for p in predictions)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_epochs": 0},
        {"accelerator": "cpu", "devices": 999, "strategy": "ddp"},
        {"check_val_every_n_epoch": 0},
        {"accumulate_grad_batches": 0},
        {"accelerator": "gpu"},
        {"precision": "12-bit"},
    ],
)
def test_invalid_trainers_are_refused(wrong: dict) -> None:
    if wrong.get("accelerator") == "gpu" and torch.cuda.is_available():
        wrong = {"accelerator": "gpu", "devices": 99}
    with pytest.raises(InputError):
        TrainerConfig(**wrong).build()


def test_fsdp_refuses_what_needs_whole_weights() -> None:
    config = TrainerConfig(accelerator="cpu", devices=2, strategy="fsdp")
    with refused("trainer.not_with_fsdp") as error:
        config.build(callbacks=[WeightAveraging(0.9)])
    assert "recipe.ema=0" in str(error.value)
    with refused("trainer.not_with_fsdp"):
        config.build(find_unused_parameters=True)


@pytest.mark.parametrize(("make", "count"), [(DATA["detection"], 12), (joint, 12)])
def test_more_processes_than_items_are_refused(make: Any, count: int) -> None:
    data = make()
    data.setup("fit")
    data.check_world_size(count)
    with refused("trainer.too_many_processes") as error:
        data.check_world_size(count + 1)
    assert f"trainer.devices={count}" in str(error.value)
