"""A run as a whole, on small nets: the same again, resumed, and with what the data lacks."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_files import write_image
from refusals import refused
from small_runs import DATA, Kill, Killed, joint, make_task, train_small

from datamodules.formats.image_folder import ImageFolder
from datamodules.synthetic import Scenes
from foundation.structures import InputError
from resmet.callbacks.ema import WeightAveraging
from resmet.engine.trainer import TrainerConfig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", DATA)
def test_resumed_equals_uninterrupted_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole, broken = train_small(kind, tmp_path / "whole"), tmp_path / "broken"
    with pytest.raises(Killed):
        train_small(kind, broken, [Kill(epoch=2)])
    assert not (broken / "metrics.json").exists()
    train_small(kind, broken, resume=True)
    first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, broken))
    assert first["global_step"] == second["global_step"] > 0
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    assert (whole / "metrics.csv").read_text() == (broken / "metrics.csv").read_text()
    assert (
        json.loads((whole / "metrics.json").read_text())["test"]
        == json.loads((broken / "metrics.json").read_text())["test"]
    )


def test_checkpoints_hold_plain_values_and_one_backbone(tmp_path: Path) -> None:
    run = train_small("joint", tmp_path / "run", max_epochs=1)
    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert {"state_dict", "config", "spec"} <= set(content)
        assert sum(key.endswith("backbone.conv1.weight") for key in content["state_dict"]) == 1


def test_other_data_is_not_resumed(tmp_path: Path) -> None:
    train_small("classification", tmp_path / "run", max_epochs=1)
    with refused("checkpoint.other_data"):
        train_small(partial(Scenes, target="labels", count=12, size=64), tmp_path / "run", resume=True)


def folder_run(root: Path, run: Path, **options: Any) -> dict:
    """Trains an epoch on an image folder and returns its metrics.json."""
    train_small(partial(ImageFolder, str(root), **options), run, max_epochs=1)
    return json.loads((run / "metrics.json").read_text())


def test_fewer_images_than_a_batch_still_take_a_step(image_folder: Path, tmp_path: Path) -> None:
    assert folder_run(image_folder, tmp_path / "run", batch_size=64)["steps"] == 1


def test_a_last_batch_of_one(image_folder: Path, tmp_path: Path) -> None:
    """Ten pictures in nines at 32 pixels: batch statistics of one position would be an error."""
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
    with pytest.raises(InputError, match="no item to use as val"):
        folder_run(tmp_path / "data", tmp_path / "run")


def test_multilabel(tmp_path: Path) -> None:
    train_small(partial(Scenes, target="labels", count=20, size=64), tmp_path, max_epochs=1)
    result = json.loads((tmp_path / "metrics.json").read_text())
    assert {"accuracy", "f1", "average_precision", "score"} <= set(result["test"])


def test_labels_above_one_half_are_predicted() -> None:
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
def test_trainers_that_cannot_be_made(wrong: dict) -> None:
    if wrong.get("accelerator") == "gpu" and torch.cuda.is_available():
        wrong = {"accelerator": "gpu", "devices": 99}
    with pytest.raises(InputError):
        TrainerConfig(**wrong).build()


def test_what_needs_whole_weights_is_refused_where_they_are_shared_out() -> None:
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
    with pytest.raises(InputError, match=f"trainer.devices={count}"):
        data.check_world_size(count + 1)
