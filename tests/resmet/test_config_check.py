"""Every number of a config is judged before data is read: recipe and task are built for data that stands in."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from refusals import refused

from foundation.structures import InputError, require_range
from resmet.assembly import check_buildable

CONF = Path(__file__).parents[2] / "conf"


def config(*words: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*words])


@pytest.mark.parametrize(
    "words",
    [
        "recipe.optimizer.lr=-1",
        "recipe.optimizer.lr=0",
        "recipe.optimizer.lr=nan",
        "recipe.optimizer.lr=inf",
        "recipe.optimizer.weight_decay=-1",
        "recipe.optimizer.eps=0",
        "recipe.optimizer.betas=[0.9,2]",
        "recipe.optimizer.betas=[0.9]",
        "recipe.optimizer.momentum=-1 recipe/optimizer=sgd",
        "recipe.optimizer.lr=nan recipe/optimizer=sgd",
        "task.dropout=1.5",
        "task.label_smoothing=2",
        "task.threshold=5",
        "task.mixup=-1",
        "task.dice_weight=2 task=segmentation",
        "task.head.widths=[0,1,1,1,1] task=segmentation",
        "task.head.widths=[8] task=segmentation",
        "task.head.fpn.out_channels=0 task=detection",
        "task.head.representation_size=0 task=detection",
        "task.head.anchors.size=-1 task=detection",
        "task.head.anchors.aspect_ratios=[-1] task=detection",
        "task.head.anchors.aspect_ratios=[] task=detection",
        "task.head.sampling.post_nms_top_n=0 task=detection",
        "task.head.sampling.batch_size_per_image=0 task=detection",
        "task.head.score_threshold=2 task=detection",
        "task.weights.digits=-1 task=joint",
        "backbone.width=0",
    ],
)
def test_a_number_out_of_range_is_named(words: str) -> None:
    key = words.split("=")[0]
    with pytest.raises(InputError) as caught:
        check_buildable(config(*words.split()))
    assert key in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("task=detection task.head.fpn.strides=[0]", "backbone.missing_strides"),
        ("task=detection task.head.fpn.strides=[4,4]", "config.wrong_strides"),
        ("task=detection backbone=resnet20", "backbone.missing_strides"),
        ("task=audio backbone=timm", "backbone.wrong_axes"),
        ("recipe/optimizer=sgd recipe.optimizer.momentum=0", "recipe.invalid_optimizer"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(words: str, code: str) -> None:
    with refused(code):
        check_buildable(config(*words.split()))


@pytest.mark.parametrize("task", sorted(file.stem for file in (CONF / "task").glob("*.yaml")))
def test_the_check_leaves_no_trace(task: str) -> None:
    balanced = ["task.class_weights=balanced"] if task in ("classification", "segmentation") else []
    cfg = config(f"task={task}", "backbone.weights=somewhere", *balanced)
    before, state = cfg.copy(), torch.get_rng_state()
    check_buildable(cfg)
    assert cfg == before
    assert torch.equal(torch.get_rng_state(), state)


def test_ends_belong_to_a_range_unless_they_are_left_out() -> None:
    require_range("a", 0, 0, 1)
    require_range("a", 1, 0, 1)
    for wrong in ({"value": 0, "above": True}, {"value": 1, "below": True}, {"value": float("nan")}):
        with pytest.raises(InputError, match="a must be from 0 to"):
            require_range("a", least=0, most=1, **wrong)
