"""Detection as torchvision's tutorial writes it.

Source: pytorch.org/tutorials/intermediate/torchvision_tutorial.html; without pretrained weights all layers learn and batch norms are real,
as torchvision's own builders have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset
from torchmetrics.detection import MeanAveragePrecision
from torchvision import tv_tensors
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from benchmarks.rivals.tutorial import WORKERS, Tutorial

LAYERS = {4: 1, 8: 2, 16: 3, 32: 4}
"""ResNet's stages by their stride."""


class Voc(Dataset):
    """Pictures of Pascal VOC with their boxes; labels begin at 1, for 0 is the background."""

    def __init__(self, root: Path, split: str, classes: Sequence[str], transforms: Any) -> None:
        self.root, self.classes, self.transforms = root, list(classes), transforms
        self.names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        name = self.names[index]
        image = Image.open(self.root / "JPEGImages" / f"{name}.jpg").convert("RGB")
        boxes, labels = [], []
        for node in ElementTree.parse(self.root / "Annotations" / f"{name}.xml").getroot().iter("object"):
            corners = [float(node.findtext(f"bndbox/{corner}", "0")) for corner in ("xmin", "ymin", "xmax", "ymax")]
            if corners[2] > corners[0] and corners[3] > corners[1]:
                boxes.append(corners)
                labels.append(1 + self.classes.index(node.findtext("name", "")))
        shown = tv_tensors.BoundingBoxes(
            torch.tensor(boxes).reshape(-1, 4), format="XYXY", canvas_size=(image.height, image.width)
        )
        return self.transforms(image, {"boxes": shown, "labels": torch.tensor(labels)})


class Detector(Tutorial):
    """Lists of pictures and targets; the net gives its losses itself."""

    def loss(self, batch: Any) -> Tensor:
        images, targets = batch
        return sum(self.net(list(images), list(targets)).values())

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        meter = MeanAveragePrecision(backend="faster_coco_eval")
        for images, targets in self.held or ():
            meter.update(self.net(list(images)), list(targets))
        return float(meter.compute()["map_50"])


def together(samples: Sequence[Any]) -> tuple:
    """The tutorial's way to make a batch."""
    return tuple(zip(*samples, strict=True))


def detector(classes: int, **sizes: Any) -> nn.Module:
    """torchvision's Faster R-CNN on a ResNet-18 with a pyramid, at its defaults but for `sizes`.

    ``width`` and ``hidden`` are the pyramid's and the head's, ``strides`` its levels; anything else is `FasterRCNN`'s own.
    """
    width, hidden, strides = sizes.pop("width", 256), sizes.pop("hidden", 1024), sizes.pop("strides", tuple(LAYERS))
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[LAYERS[stride] for stride in strides],
    )
    if len(strides) < len(LAYERS):
        levels = (*strides, 2 * strides[-1])  # one more is pooled
        sizes["rpn_anchor_generator"] = AnchorGenerator(
            tuple((8 * level,) for level in levels), ((0.5, 1.0, 2.0),) * len(levels)
        )
        sizes["box_roi_pool"] = MultiScaleRoIAlign([str(place) for place in range(len(strides))], 7, 2)
    if width != 256:
        backbone.fpn = narrow(backbone.fpn, width)
        backbone.out_channels = width
    net = FasterRCNN(backbone, classes + 1, **sizes)
    if hidden != 1024:
        net.roi_heads.box_head = type(net.roi_heads.box_head)(width * 49, hidden)
        net.roi_heads.box_predictor = type(net.roi_heads.box_predictor)(hidden, classes + 1)
    return net


def narrow(fpn: Any, width: int) -> nn.Module:
    """The same pyramid with other channels."""
    channels = [block[0].in_channels for block in fpn.inner_blocks]
    return type(fpn)(channels, width, extra_blocks=fpn.extra_blocks)


def detection(root: Path, classes: Sequence[str], batch: int = 4, **sizes: Any) -> Detector:
    """Faster R-CNN on pictures that are mirrored and coloured as much as ours are by default."""
    tail = [v2.ToImage(), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()]
    change = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.1, 0.1), *tail])
    train, held = Voc(root, "train", classes, change), Voc(root, "val", classes, v2.Compose(tail))
    net = detector(len(classes), **sizes)
    optimizer = SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=0.0005)
    return Detector(
        net,
        optimizer,
        DataLoader(train, batch, shuffle=True, num_workers=WORKERS, collate_fn=together),
        DataLoader(held, batch, num_workers=WORKERS, collate_fn=together),
    )
