"""Nets alone, forward and backward, against those of timm, torchvision and segmentation_models.pytorch at the same precision and memory format; about 1 is expected."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.ab_timing import Result, Settings, alternate, compare_ms
from benchmarks.registry import Row
from benchmarks.resmet_side import compose_train, load_data, precision_of
from benchmarks.rivals.detection import detector
from benchmarks.task_pairs import PAIRS, torchvision_sizes
from foundation.structures import Spec
from resmet.assembly import assemble_task

MEMORY_FORMAT = torch.channels_last


def resnet18(make_rival: Callable[[], nn.Module], settings: Settings) -> Result:
    task = make_task((), Spec(2, 3, tuple("abcdefghij")))
    return compare_nets(task, make_rival(), torch.rand(16, 3, 224, 224), settings)


def unet(settings: Settings) -> Result:
    task = make_task(("task=segmentation",), Spec(2, 3, ("a", "b", "c"), target="mask"))
    net = smp.Unet("resnet18", encoder_weights=None, classes=3)
    return compare_nets(task, net, torch.rand(4, 3, 256, 256), settings)


def faster_rcnn(settings: Settings) -> Result:
    pair = PAIRS["detection_alike"]
    cfg, data = load_data([*pair.at(pair.root(settings, 4, 2)), *pair.no_augment])
    task = assemble_task(cfg, data.spec).train()
    batch = next(iter(data.val_dataloader()))
    data.teardown("")
    net = detector(data.spec.num_classes, **torchvision_sizes(cfg, data, task)).to(memory_format=MEMORY_FORMAT).train()
    images = [image[:, : size[0], : size[1]] / 255 for image, size in zip(batch["input"], batch["sizes"], strict=True)]
    targets = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in batch["target"]]
    ours = training_step(lambda: sum(task.losses(task.encode(batch), batch).values()), task)
    theirs = training_step(lambda: sum(net(images, targets).values()), net)
    return compare_ms(*alternate(ours, theirs, settings.rounds), "ms")


def audio_layout(settings: Settings) -> Result:
    task = make_task(("task=audio",), Spec(1, 1, tuple("abcdefghij")))
    plain = deepcopy(task.backbone)
    replace_layers(plain)
    clips, stride = torch.randn(settings.pick(4, 32), 1, 8000), task.head.stride
    ours = training_step(lambda: task.backbone(clips)[stride].float().square().mean(), task.backbone)
    theirs = training_step(lambda: plain.features(clips)[stride].float().square().mean(), plain)
    return compare_ms(*alternate(ours, theirs, settings.rounds), "ms")


def replace_layers(module: nn.Module) -> None:
    """Replaces Resmet's layers with torch's own Conv1d, BatchNorm1d and MaxPool1d."""
    for name, child in module.named_children():
        if layer := torch_layer(child):
            setattr(module, name, layer)
        else:
            replace_layers(child)


def torch_layer(layer: Any) -> nn.Module | None:
    """Returns torch's own layer with one axis; None for a layer that needs no replacement."""
    if isinstance(layer, nn.Conv1d):
        sizes = layer.kernel_size[0], layer.stride[0], layer.padding[0]
        conv = nn.Conv1d(layer.in_channels, layer.out_channels, *sizes, bias=False)
        conv.load_state_dict(layer.state_dict())
        return conv
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm1d(layer.num_features)
    if isinstance(layer, nn.MaxPool1d):
        return nn.MaxPool1d(layer.kernel_size, layer.stride, layer.padding)
    return None


def make_task(overrides: tuple[str, ...], spec: Spec) -> Any:
    return assemble_task(compose_train(overrides), spec).train()


def compare_nets(task: Any, net: nn.Module, x: Tensor, settings: Settings) -> Result:
    """Compares forward and backward of both for the same input."""
    x, net = x.contiguous(memory_format=MEMORY_FORMAT), net.to(memory_format=MEMORY_FORMAT).train()
    ours = training_step(lambda: task.head(task.backbone(x)).float().square().mean(), task)
    theirs = training_step(lambda: net(x).float().square().mean(), net)
    return compare_ms(*alternate(ours, theirs, settings.rounds), "ms")


def training_step(loss: Callable[[], Any], net: nn.Module) -> Callable[[], None]:
    """Returns a function that runs forward at Resmet's default precision, and backward."""
    bf16 = precision_of(compose_train()).startswith("bf16")

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        net.zero_grad()

    return step


RESNET18 = "ResNet-18 with its classifier, 16 images of 224 pixels, against"
ROWS = (
    Row(
        "pieces.timm_resnet18",
        f"{RESNET18} timm's resnet18.",
        "timm's resnet18",
        partial(resnet18, lambda: timm.create_model("resnet18", num_classes=10)),
    ),
    Row(
        "pieces.torchvision_resnet18",
        f"{RESNET18} torchvision's resnet18.",
        "torchvision's resnet18",
        partial(resnet18, lambda: torchvision.models.resnet18(num_classes=10)),
    ),
    Row("pieces.smp_unet", "U-Net on ResNet-18, 4 images of 256 pixels, against smp.Unet.", "smp.Unet", unet),
    Row(
        "pieces.torchvision_detector",
        "Faster R-CNN on ResNet-18 with its losses, 2 images of `bccd`, against torchvision's of the same sizes and widths.",
        "torchvision's FasterRCNN at our sizes",
        faster_rcnn,
    ),
    Row(
        "layout.audio",
        "ResNet-18 on 32 clips of 8,000 samples, forward and backward, against the same net of Conv1d, BatchNorm1d and MaxPool1d.",
        "the same net of Conv1d",
        audio_layout,
    ),
)
