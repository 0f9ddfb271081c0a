"""What a config may build, and what a checkpoint gives back."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from refusals import refused

from datamodules.synthetic import Digits
from foundation.structures import InputError, Spec
from resmet.assembly import allowed, assemble_task, build, load_task, read_checkpoint
from resmet.renamed import convert_config

CONFIG = {
    "task": {"_target_": "tasks.classification.Classification", "_partial_": True},
    "backbone": {"_target_": "backbones.resnet.ResNet", "_partial_": True, "depth": 18, "width": 8, "weights": "none"},
    "recipe": {"_target_": "tasks.optim.recipe.Recipe"},
}


def save(path: Path, **change: object) -> Path:
    spec = Spec(2, 1, ("a", "b"), (0.0,), (1.0,), (32, 32), "stretch")
    task = assemble_task(OmegaConf.create(CONFIG), spec)
    content = {"state_dict": task.state_dict(), "config": CONFIG, "spec": spec.to_dict()} | change
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "numpy.load",
        "torch.nn.modules.module.torch.load",
        "resmet.assembly.torch.load",
        "tasks.base.torch.load",
        "backbones.weights.torch.load",
        "datamodules.decoding.image.Path",
        "resmet.cli.run_dir.os.system",
        "tests.conftest.picture",
    ],
)
def test_only_our_own_can_be_built(target: str, tmp_path: Path) -> None:
    assert not allowed(target)
    with refused("config.forbidden_target"):
        build(
            OmegaConf.create(
                {"_target_": "datamodules.synthetic.Digits", "augment": {"_target_": target, "_args_": [str(tmp_path)]}}
            )
        )


def test_a_checkpoint_alone_predicts(tmp_path: Path) -> None:
    task = load_task(save(tmp_path / "a.ckpt"))
    assert task.spec.class_names == ("a", "b")
    assert not task.training
    with torch.inference_mode():
        said = task(
            {"input": torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "sizes": [(32, 32)] * 2, "names": ["x", "y"]}
        )
    assert len(said) == 2


def test_a_checkpoint_whose_config_would_run_code(tmp_path: Path) -> None:
    evil = CONFIG | {"task": {"_target_": "os.system", "_args_": [f"touch {tmp_path / 'mark'}"]}}
    with refused("config.forbidden_target"):
        load_task(save(tmp_path / "evil.ckpt", config=evil))
    assert not (tmp_path / "mark").exists()


def test_checkpoints_that_cannot_be_used(tmp_path: Path) -> None:
    good = save(tmp_path / "good.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(good.read_bytes()[:3000])
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "foreign.ckpt")
    codes = {"none": "checkpoint.missing", "cut": "checkpoint.unreadable", "foreign": "checkpoint.foreign"}
    for name, code in codes.items():
        with refused(code):
            read_checkpoint(tmp_path / f"{name}.ckpt")
    with refused("checkpoint.wrong_weights"):
        load_task(save(tmp_path / "odd.ckpt", state_dict={}))
    with refused("checkpoint.invalid_spec"):
        load_task(save(tmp_path / "spec.ckpt", spec={"ndim": 2}))


@pytest.mark.parametrize("state", [[], None, {}, {3: torch.zeros(1)}])
def test_a_checkpoint_whose_weights_do_not_fit(state: object, tmp_path: Path) -> None:
    with refused("checkpoint.wrong_weights"):
        load_task(save(tmp_path / "a.ckpt", state_dict=state))


def test_a_backbone_moves_from_task_to_task(tmp_path: Path) -> None:
    source = load_task(save(tmp_path / "a.ckpt"))
    config = OmegaConf.create(CONFIG)
    config.task._target_ = "tasks.segmentation.Segmentation"
    config.backbone.weights = str(tmp_path / "a.ckpt")
    spec = Spec(2, 1, ("background", "x"), target="mask")
    task = assemble_task(config, spec)
    assert task.backbone.match.matched == task.backbone.match.total
    assert torch.equal(task.backbone.conv1.weight, source.backbone.conv1.weight)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_of_the_same_size_is_transferred(tmp_path: Path, classes: int) -> None:
    source = load_task(save(tmp_path / "a.ckpt"))
    config = OmegaConf.create(CONFIG)
    config.backbone.weights = str(tmp_path / "a.ckpt")
    task = assemble_task(config, Spec(2, 1, tuple("abc"[:classes])))
    assert torch.equal(task.head.linear.weight, source.head.linear.weight) == (classes == 2)


def test_a_head_of_other_classes_is_not_transferred(tmp_path: Path) -> None:
    source = load_task(save(tmp_path / "a.ckpt"))
    config = OmegaConf.create(CONFIG)
    config.backbone.weights = str(tmp_path / "a.ckpt")
    task = assemble_task(config, Spec(2, 1, ("x", "y")))
    assert task.backbone.match.matched == task.backbone.match.total
    assert not torch.equal(task.head.linear.weight, source.head.linear.weight)


def test_data_of_another_task_is_not_checked(tmp_path: Path) -> None:
    spec = Spec(2, 3, ("background", "x"), target="mask")
    with pytest.raises(InputError, match="trained on mask over 2 axes, this data has label"):
        Digits().use_spec(spec)


HEAD = {"_target_": "heads.rcnn.RCNN", "_partial_": True}
DETECTION = CONFIG | {"task": {"_target_": "tasks.detection.Detection", "_partial_": True, "head": HEAD}}
SMALL = {"width": 16, "hidden": 24, "sampled": 32, "proposals": 50, "anchor": 6.0, "strides": [8, 16, 32]}


def test_what_was_decided_is_written_into_the_checkpoint(tmp_path: Path) -> None:
    spec = Spec(2, 3, ("a", "b"), target="boxes", objects_per_image=20, box_side_quantiles=(24.0, 76.0, 174.0))
    task = assemble_task(OmegaConf.create(DETECTION), spec)
    head = task.config["task"]["head"]
    assert head["fpn"]["strides"] == [8, 16, 32]
    assert (head["fpn"]["out_channels"], head["sampling"]["batch_size_per_image"]) == (32, 120)
    assert "20" not in str(DETECTION["task"])
    assert task.notes() == [f"detection with {task.head.describe()}"]
    unknown = spec.to_dict() | {"objects_per_image": 0, "box_side_quantiles": ()}  # whatever else they would decide
    content = {"state_dict": task.state_dict(), "config": task.config, "spec": unknown}
    torch.save(content, tmp_path / "a.ckpt")
    again = load_task(tmp_path / "a.ckpt")
    assert again.head.options == task.head.options
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in task.state_dict().items())


def test_a_checkpoint_of_detection_from_before_is_read(tmp_path: Path) -> None:
    """Its Spec has no statistics of boxes, its config the first names of keys, and not the newer ones."""
    config = DETECTION | {"task": DETECTION["task"] | {"head": HEAD | SMALL}}
    spec = Spec(2, 3, ("a", "b"), (0.0,) * 3, (1.0,) * 3, target="boxes")
    task = assemble_task(OmegaConf.create(convert_config(config)), spec)
    values = {
        key: value for key, value in spec.to_dict().items() if key not in ("objects_per_image", "box_side_quantiles")
    }
    torch.save({"state_dict": task.state_dict(), "config": config, "spec": values}, tmp_path / "old.ckpt")
    again = load_task(tmp_path / "old.ckpt")
    assert again.head.options == task.head.options
    assert again.head.strides == SMALL["strides"]
    with torch.inference_mode():
        said = again({"input": torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "sizes": [(64, 64)], "names": ["x"]})
    assert set(said[0]) == {"boxes", "labels", "scores"}
