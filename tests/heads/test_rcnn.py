"""Faster R-CNN's head is torchvision's at the published settings, and has sensible sizes by default."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from foundation.structures import InputError
from heads.rcnn import RCNN
from heads.rcnn_options import (
    AnchorOptions,
    FPNOptions,
    SamplingOptions,
    resolve_anchors,
    resolve_fpn,
    resolve_sampling,
)

CONF = Path(__file__).parents[2] / "conf"
DEFAULTS = yaml.safe_load((CONF / "task" / "detection.yaml").read_text())["head"]
RESNET18 = {4: 64, 8: 128, 16: 256, 32: 512}
RESNET50 = {4: 256, 8: 512, 16: 1024, 32: 2048}
FIXED: dict[str, Any] = {
    "fpn": FPNOptions(16),
    "representation_size": 32,
    "sampling": SamplingOptions(post_nms_top_n=50, batch_size_per_image=32),
}
PUBLISHED: dict[str, Any] = {
    "fpn": FPNOptions(256, (4, 8, 16, 32), extra_pool_level=True),
    "anchors": AnchorOptions(8.0),
    "representation_size": 1024,
}


class FixedFeatures(nn.Module):
    """Takes the place of a backbone."""

    out_channels = 256


def batch(height: int = 96, width: int = 128) -> tuple[dict[int, Tensor], dict]:
    generator = torch.Generator().manual_seed(0)
    features = {
        stride: torch.randn(2, channels, -(-height // stride), -(-width // stride), generator=generator)
        for stride, channels in RESNET18.items()
    }
    boxes = torch.tensor([[8.0, 8.0, 40.0, 60.0], [60.0, 20.0, 120.0, 80.0]])
    target = [
        {"boxes": boxes, "labels": torch.tensor([0, 2])},
        {"boxes": boxes[:1], "labels": torch.tensor([1])},
    ]
    sizes = [(height, width), (height - 10, width - 20)]
    return features, {"input": torch.zeros(2, 3, height, width), "sizes": sizes, "target": target, "seeds": [3, 4]}


def torchvision_model(head: RCNN) -> FasterRCNN:
    """Returns torchvision's model with the weights and samplers of `head`."""
    model = FasterRCNN(FixedFeatures(), num_classes=4, rpn_pre_nms_top_n_train=1000, rpn_post_nms_top_n_train=1000)
    model.rpn.head.load_state_dict(head.rpn.head.inner.state_dict())
    model.roi_heads.box_head.load_state_dict(head.roi.box_head.state_dict())
    model.roi_heads.box_predictor.load_state_dict(head.roi.box_predictor.inner.state_dict())
    model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler = head.samplers
    return model


@pytest.mark.slow
def test_published_settings_are_torchvisions() -> None:
    torch.manual_seed(0)
    head = RCNN(RESNET18, 3, sampling=SamplingOptions(1000, 512), score_threshold=0.05, **PUBLISHED)
    assert head.anchors == [32, 64, 128, 256, 512]
    with torch.no_grad():  # not at chance, so that there is something to compare
        head.roi.box_predictor.inner.cls_score.weight.mul_(20)
    features, given = batch()
    model = torchvision_model(head)
    levels = dict(zip("0123", head.fpn({str(s): features[s] for s in RESNET18}).values(), strict=False))
    levels["pool"] = list(head.fpn({str(s): features[s] for s in RESNET18}).values())[4]
    images = ImageList(given["input"], given["sizes"])
    with torch.no_grad():
        found = head.eval().predict(features, given)
        proposals, _ = model.eval().rpn(images, levels)
        expected, _ = model.roi_heads(levels, proposals, given["sizes"])
    assert sum(len(own["labels"]) for own in found) > 10
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own["boxes"], other["boxes"])
        assert torch.equal(own["labels"] + 1, other["labels"])
        assert torch.equal(own["scores"], other["scores"])
    targets = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in given["target"]]
    ours = head.train().losses(features, given)
    proposals, first = model.train().rpn(images, levels, targets)
    _, second = model.roi_heads(levels, proposals, given["sizes"], targets)
    for name, value in (first | second).items():
        torch.testing.assert_close(ours[name], value)


def test_the_published_experiment_has_torchvisions_head() -> None:
    experiment = yaml.safe_load((CONF / "experiment" / "detection_published.yaml").read_text())
    given = experiment["task"]["head"]
    for group in (DEFAULTS, *(value for value in DEFAULTS.values() if isinstance(value, dict))):
        own = given if group is DEFAULTS else given[next(key for key, value in DEFAULTS.items() if value is group)]
        assert set(own) == {key for key in group if not key.startswith("_")}
    types = {"fpn": FPNOptions, "anchors": AnchorOptions, "sampling": SamplingOptions}
    with torch.device("meta"):
        head = RCNN(RESNET50, 90, **given | {name: kind(**given[name]) for name, kind in types.items()})
        model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    assert head.anchors == [side for (side,) in model.rpn.anchor_generator.sizes]
    assert list(map(tuple, head.rpn.anchor_generator.aspect_ratios)) == list(model.rpn.anchor_generator.aspect_ratios)
    for ours, other in (
        (head.fpn, model.backbone.fpn),
        (head.rpn.head.inner, model.rpn.head),
        (head.roi.box_head, model.roi_heads.box_head),
        (head.roi.box_predictor.inner, model.roi_heads.box_predictor),
    ):
        shapes = ({name: value.shape for name, value in part.state_dict().items()} for part in (ours, other))
        assert next(shapes) == next(shapes)
    assert head.roi.fg_bg_sampler.size == model.roi_heads.fg_bg_sampler.batch_size_per_image
    assert head.rpn.fg_bg_sampler.size == model.rpn.fg_bg_sampler.batch_size_per_image
    head.eval(), model.eval()
    assert head.rpn.post_nms_top_n() == model.rpn.post_nms_top_n()
    assert head.roi.score_thresh == model.roi_heads.score_thresh


def test_boxes_and_losses_stay_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    head = RCNN(RESNET18, 3, **FIXED)
    features, given = batch()
    seen: dict[str, list[Tensor]] = {}
    for name, part in {"anchors": head.rpn.anchor_generator, "levels": head.fpn, "answers": head.rpn.head}.items():
        part.register_forward_hook(lambda _m, _given, out, name=name: seen.update({name: out}))
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.losses(features, given)
    assert {level.dtype for level in seen["levels"].values()} == {torch.bfloat16}  # type: ignore[attr-defined]
    assert {anchors.dtype for anchors in seen["anchors"]} == {torch.float32}
    assert {answer.dtype for part in seen["answers"] for answer in part} == {torch.float32}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    plain = RCNN(RESNET18, 3, **FIXED)
    exact = plain.rpn.anchor_generator(ImageList(given["input"], given["sizes"]), list(features.values()))
    assert all(torch.equal(a, b) for a, b in zip(exact, seen["anchors"], strict=True))


@pytest.mark.parametrize(
    ("channels", "objects_per_image", "box_side_quantiles", "width", "strides", "anchor", "sampled"),
    [
        (RESNET18, 0, (), 128, (4, 8, 16, 32), 8.0, 126),
        (RESNET50, 0, (), 256, (4, 8, 16, 32), 8.0, 126),
        ({4: 8, 8: 16, 16: 32, 32: 64}, 0, (), 32, (4, 8, 16, 32), 8.0, 126),
        (RESNET18, 20, (24.0, 76.0, 174.0), 128, (8, 16, 32), 4.0, 120),  # cells
        (RESNET18, 3, (10.0, 20.0, 30.0), 128, (4, 8, 16, 32), 4.0, 64),  # all small
        (RESNET18, 20, (8.0, 60.0, 300.0), 128, (4, 8, 16, 32), 8.0, 120),  # of all sizes
        (RESNET18, 500, (300.0, 400.0, 500.0), 128, (8, 16, 32), 8.0, 512),  # all large
    ],
)
def test_sizes_follow_from_backbone_and_data(
    channels: dict,
    objects_per_image: int,
    box_side_quantiles: tuple,
    width: int,
    strides: tuple,
    anchor: float,
    sampled: int,
) -> None:
    fpn = resolve_fpn(FPNOptions(), channels, box_side_quantiles)
    assert fpn == FPNOptions(width, strides)
    assert resolve_anchors(AnchorOptions(), strides, box_side_quantiles).size == anchor
    assert resolve_sampling(SamplingOptions(), objects_per_image) == SamplingOptions(4 * sampled, sampled)


def test_explicit_options_take_precedence() -> None:
    groups = {"fpn": FPNOptions(8, (16,)), "anchors": AnchorOptions(2.0), "sampling": SamplingOptions(7, 5)}
    statistics: dict[str, Any] = {"objects_per_image": 20, "box_side_quantiles": (24.0, 76.0, 174.0)}
    head = RCNN(RESNET18, 2, **groups, representation_size=9, **statistics)
    assert (head.strides, head.anchors, head.roi.fg_bg_sampler.size) == ([16], [32], 5)
    assert head.options["representation_size"] == 9
    nodes = OmegaConf.create(head.options)
    again = RCNN(
        RESNET18, 2, **{name: instantiate(nodes[name], _convert_="all") for name in groups}, representation_size=9
    )
    assert again.options == head.options
    assert again.state_dict().keys() == head.state_dict().keys()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FPNOptions(strides=()),
        lambda: FPNOptions(strides=(8, 8)),
        lambda: FPNOptions(out_channels=0),
        lambda: AnchorOptions(size=0.0),
        lambda: AnchorOptions(aspect_ratios=()),
        lambda: SamplingOptions(batch_size_per_image=0),
        lambda: RCNN(RESNET18, 2, representation_size=0),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert "task.head" in str(error.value)
    assert error.value.code in ("config.out_of_range", "config.wrong_strides", "config.wrong_length")
