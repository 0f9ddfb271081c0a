"""Rows ``pieces.*``: our nets against those of timm, torchvision and segmentation_models.pytorch, forward and backward, at the same
precision and in the same layout; about 1 is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.ours import compose, prepared
from benchmarks.pairs import PAIRS, detector_sizes
from benchmarks.rivals.detection import detector
from benchmarks.rounds import Result, Settings, compared, take_turns
from foundation.structures import Spec
from resmet.assembly import assemble_task, build

LAYOUT = torch.channels_last


def timm_resnet18(settings: Settings) -> Result:
    """ResNet-18 with its classifier, 16 pictures of 224 pixels, against timm's resnet18."""
    return classifiers(timm.create_model("resnet18", num_classes=10), settings)


def torchvision_resnet18(settings: Settings) -> Result:
    """ResNet-18 with its classifier, 16 pictures of 224 pixels, against torchvision's resnet18."""
    return classifiers(torchvision.models.resnet18(num_classes=10), settings)


def smp_unet(settings: Settings) -> Result:
    """U-Net on ResNet-18, 4 pictures of 256 pixels, against smp.Unet."""
    task = ours(("task=segmentation",), Spec(2, 3, ("a", "b", "c"), target="mask"))
    net = smp.Unet("resnet18", encoder_weights=None, classes=3)
    x = torch.rand(4, 3, 256, 256)
    return against(lambda y: task.head(task.backbone(y)), net, x, task, settings)


def torchvision_detector(settings: Settings) -> Result:
    """Faster R-CNN on ResNet-18 with its losses, 2 pictures of `bccd`, against torchvision's of the same sizes and widths."""
    pair = PAIRS["detection"]
    words = [*pair.said(pair.root(settings, 4, 2)), *pair.still]
    cfg, data = prepared(words)
    task = assemble_task(cfg, data.spec).train()
    batch = next(iter(data.val_dataloader()))
    data.teardown("")
    net = detector(data.spec.num_classes, **detector_sizes(cfg, data, task)).to(memory_format=LAYOUT).train()
    images = [image[:, : size[0], : size[1]] / 255 for image, size in zip(batch["input"], batch["sizes"], strict=True)]
    targets = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in batch["target"]]
    own = step(lambda: sum(task.losses(task.encode(batch), batch).values()), task)
    return timed(own, step(lambda: sum(net(images, targets).values()), net), settings)


def ours(words: tuple[str, ...], spec: Spec) -> Any:
    """A task of ours for a Spec that no data needs to have."""
    return assemble_task(compose(words), spec).train()


def classifiers(net: nn.Module, settings: Settings) -> Result:
    task = ours((), Spec(2, 3, tuple("abcdefghij")))
    x = torch.rand(16, 3, 224, 224)
    return against(lambda y: task.head(task.backbone(y)), net, x, task, settings)


def against(own: Callable, net: nn.Module, x: Tensor, task: Any, settings: Settings) -> Result:
    """Forward and backward of both for the same input."""
    x, net = x.contiguous(memory_format=LAYOUT), net.to(memory_format=LAYOUT).train()
    return timed(
        step(lambda: own(x).float().square().mean(), task), step(lambda: net(x).float().square().mean(), net), settings
    )


def step(loss: Callable[[], Any], net: nn.Module) -> Callable[[], None]:
    """Forward at our default precision, and backward."""
    half = str(build(compose(()).trainer)().precision).startswith("bf16")

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        net.zero_grad()

    return work


def timed(own: Callable, other: Callable, settings: Settings) -> Result:
    first, second = take_turns(own, other, settings.rounds)
    return compared([1000 * value for value in first], [1000 * value for value in second], "ms")


ROWS = {
    "pieces.timm_resnet18": timm_resnet18,
    "pieces.torchvision_resnet18": torchvision_resnet18,
    "pieces.smp_unet": smp_unet,
    "pieces.torchvision_detector": torchvision_detector,
}
