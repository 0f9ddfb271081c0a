"""Nets alone, forward and backward, against those of timm, torchvision and segmentation_models.pytorch at the same precision and memory format; about 1 is expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.measure import Result, Settings, alternate, compare_ms, row
from benchmarks.resmet_side import compose_train, load_data, precision_of
from benchmarks.rivals.audio import resnet18_1d
from benchmarks.rivals.detection import detector
from benchmarks.tasks import PAIRS, torchvision_sizes
from foundation.structures import Spec
from resmet.assembly import assemble_task

CLASSES = tuple("abcdefghij")
RESNET18 = "ResNet-18 with its classifier, 16 images of 224 pixels, against"


@row("pieces.timm_resnet18", "timm's resnet18", f"{RESNET18} timm's resnet18.")
def timm_resnet18(settings: Settings) -> Result:
    net = timm.create_model("resnet18", num_classes=10)
    return compare_nets("classification", Spec(2, 3, CLASSES), net, torch.rand(16, 3, 224, 224), settings)


@row("pieces.torchvision_resnet18", "torchvision's resnet18", f"{RESNET18} torchvision's resnet18.")
def torchvision_resnet18(settings: Settings) -> Result:
    net = torchvision.models.resnet18(num_classes=10)
    return compare_nets("classification", Spec(2, 3, CLASSES), net, torch.rand(16, 3, 224, 224), settings)


@row("pieces.smp_unet", "smp.Unet", "U-Net on ResNet-18, 4 images of 256 pixels, against smp.Unet.")
def unet(settings: Settings) -> Result:
    net = smp.Unet("resnet18", encoder_weights=None, classes=3)
    spec = Spec(2, 3, ("a", "b", "c"), target="mask")
    return compare_nets("segmentation", spec, net, torch.rand(4, 3, 256, 256), settings)


@row(
    "pieces.torchvision_detector",
    "torchvision's FasterRCNN at our sizes",
    "Faster R-CNN on ResNet-18 with its losses, 2 images of `bccd`, against torchvision's of the same sizes and widths.",
)
def faster_rcnn(settings: Settings) -> Result:
    pair = PAIRS["detection_alike"]
    cfg, data = load_data([*pair.at(pair.root(settings, 4, 2)), *pair.no_augment])
    task = assemble_task(cfg, data.spec).train()
    batch = next(iter(data.val_dataloader()))
    net = detector(data.spec.num_classes, **torchvision_sizes(data, task))
    net = net.to(memory_format=torch.channels_last).train()
    images = [image[:, : size[0], : size[1]] / 255 for image, size in zip(batch["input"], batch["sizes"], strict=True)]
    targets = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in batch["target"]]
    ours = training_step(lambda: sum(task.losses(task.encode(batch), batch).values()), task)
    theirs = training_step(lambda: sum(net(images, targets).values()), net)
    return compare_ms(*alternate(ours, theirs, settings.rounds))


@row(
    "layout.audio",
    "the same net of Conv1d",
    "ResNet-18 on 32 clips of 8,000 samples, forward and backward, against the same net of Conv1d, BatchNorm1d and MaxPool1d.",
)
def audio_layout(settings: Settings) -> Result:
    clips = torch.randn(settings.pick(4, 32), 1, 8000)
    return compare_nets("audio", Spec(1, 1, CLASSES), resnet18_1d(10), clips, settings)


def compare_nets(name: str, spec: Spec, net: nn.Module, x: Tensor, settings: Settings) -> Result:
    """Compares forward and backward of a task's net and of `net` for the same input."""
    task = assemble_task(compose_train([f"task={name}"]), spec).train()
    net.train()
    if x.ndim == 4:
        x, net = x.contiguous(memory_format=torch.channels_last), net.to(memory_format=torch.channels_last)
    ours = training_step(lambda: task.head(task.backbone(x)).float().square().mean(), task)
    theirs = training_step(lambda: net(x).float().square().mean(), net)
    return compare_ms(*alternate(ours, theirs, settings.rounds))


def training_step(loss: Callable[[], Any], net: nn.Module) -> Callable[[], None]:
    """Returns a function that runs forward at Resmet's default precision, and backward."""
    bf16 = precision_of(compose_train()).startswith("bf16")

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        net.zero_grad()

    return step
