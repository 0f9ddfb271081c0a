"""A run as a whole, on small nets: the same again, resumed, and with what the data lacks."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_files import write_image
from lightning.pytorch import seed_everything

from backbones.resnet import ResNet
from datamodules.base.datamodule import DataModule
from datamodules.formats.image_folder import ImageFolder
from datamodules.joint import JointDataModule
from datamodules.synthetic import Digits, Scenes, Tones
from foundation.structures import InputError
from heads.rcnn import RCNN
from resmet.callbacks.ema import Average
from resmet.engine.fit import train
from resmet.engine.trainer import make_trainer
from tasks.audio import Audio
from tasks.base import Task
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.joint import Joint
from tasks.segmentation import Segmentation


def digits() -> Digits:
    data = Digits(batch_size=16)
    whole = data.read()
    data.read = lambda: {split: items[:40] for split, items in whole.items()}  # type: ignore[method-assign]
    return data


def joint() -> JointDataModule:
    return JointDataModule({"a": Scenes("boxes", 12, 64), "b": Scenes("mask", 20, 64)})


DATA = {
    "classification": digits,
    "detection": lambda: Scenes("boxes", 12, 64),
    "segmentation": lambda: Scenes("mask", 12, 64),
    "audio": lambda: Tones(24, batch_size=8),
    "joint": joint,
}


def nothing() -> None:
    """The folder is there already."""


SMALL = partial(RCNN, width=32, hidden=64, sampled=32, proposals=50)


def make_task(kind: str, data: DataModule) -> Task:
    seed_everything(0, verbose=False)
    net = ResNet(18, width=8, ndim=data.spec.ndim, in_channels=data.spec.channels)
    if kind == "joint":
        return Joint(net, data.spec, {"a": partial(Detection, head=SMALL), "b": Segmentation})
    return {
        "classification": Classification,
        "detection": partial(Detection, head=SMALL),
        "segmentation": Segmentation,
        "audio": Audio,
    }[kind](net, data.spec)


def fit(kind: str, folder: Path, stop: int | None = None, resume: bool = False, epochs: int = 4) -> Path:
    """Train `epochs` epochs; `stop` ends the process's work after that many, as a kill would."""
    data = DATA[kind]()
    data.prepare()
    task = make_task(kind, data)
    if resume:  # what a fresh process would start with must not matter
        torch.manual_seed(99)
        for parameter in task.parameters():
            parameter.data.normal_()
    if stop is not None:
        end = task.on_train_epoch_start

        def die() -> None:
            if task.current_epoch == stop:
                raise KeyError("killed")
            end()

        task.on_train_epoch_start = die  # type: ignore[method-assign]
    folder.mkdir(exist_ok=True)

    def engine(**more: object):
        return make_trainer(max_epochs=epochs, accelerator="cpu", precision="32-true", **more)

    try:
        train(task, data, folder, nothing, engine, [], None, seed=0, resume=resume)
    except KeyError:
        assert stop is not None
    return folder


@pytest.mark.parametrize("kind", DATA)
def test_resumed_equals_uninterrupted_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole = fit(kind, tmp_path / "whole")
    broken = fit(kind, tmp_path / "broken", stop=2)
    assert not (broken / "metrics.json").exists()
    fit(kind, tmp_path / "broken", resume=True)
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
    run = fit("joint", tmp_path / "run", epochs=1)
    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert {"state_dict", "config", "spec"} <= set(content)
        assert sum(key.endswith("backbone.conv1.weight") for key in content["state_dict"]) == 1


def test_other_data_is_not_resumed(tmp_path: Path) -> None:
    fit("classification", tmp_path / "run", epochs=1)
    data = Scenes("labels", 12, 64)
    data.prepare()
    task = make_task("classification", data)
    with pytest.raises(InputError, match=r"the data is not what this run was trained on .*class_names"):
        train(
            task,
            data,
            tmp_path / "run",
            nothing,
            lambda **more: make_trainer(accelerator="cpu", **more),
            [],
            None,
            0,
            resume=True,
        )


def folder_run(root: Path, run: Path, **more: object) -> dict:
    data = ImageFolder(str(root), **more)
    data.prepare()
    task = make_task("classification", data)
    run.mkdir()
    train(
        task,
        data,
        run,
        nothing,
        lambda **m: make_trainer(1, "cpu", precision="32-true", **m),
        [],
        None,
        0,
        resume=False,
    )
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
    data = Scenes("labels", 20, 64)
    data.prepare()
    task = make_task("classification", data)
    train(
        task,
        data,
        tmp_path,
        nothing,
        lambda **m: make_trainer(1, "cpu", precision="32-true", **m),
        [],
        None,
        0,
        resume=False,
    )
    result = json.loads((tmp_path / "metrics.json").read_text())
    assert {"accuracy", "f1", "average_precision", "score"} <= set(result["test"])
    batch = next(iter(data.loader("test")))
    said = task(batch)
    assert all(np.array_equal((p["probabilities"] >= 0.5).nonzero().flatten(), p["labels"]) for p in said)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_epochs": 0},
        {"accelerator": "cpu", "devices": 999, "strategy": "ddp"},
        {"every": 0},
        {"accumulate": 0},
        {"accelerator": "gpu"},
        {"precision": "12-bit"},
    ],
)
def test_trainers_that_cannot_be_made(wrong: dict) -> None:
    if wrong.get("accelerator") == "gpu" and torch.cuda.is_available():
        wrong = {"accelerator": "gpu", "devices": 99}
    with pytest.raises(InputError):
        make_trainer(**wrong)


def test_what_needs_whole_weights_is_refused_where_they_are_shared_out() -> None:
    with pytest.raises(InputError, match=r"trainer=fsdp .*say recipe.ema=0, or trainer=ddp"):
        make_trainer(accelerator="cpu", devices=2, strategy="fsdp", callbacks=[Average(0.9)])
    with pytest.raises(InputError, match=r"recipe.plan.frozen=0 recipe.plan.waking=0"):
        make_trainer(accelerator="cpu", devices=2, strategy="fsdp", unused=True)


def test_more_processes_than_items_are_refused() -> None:
    for data in (Scenes("boxes", 12, 64), joint()):
        data.prepare()
        data.suit(12)
        with pytest.raises(
            InputError, match=r"12 items are too few to train on in 13 processes: say trainer.devices=12"
        ):
            data.suit(13)
