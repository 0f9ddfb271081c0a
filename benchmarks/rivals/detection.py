"""Detection as in torchvision's tutorial.

Source: pytorch.org/tutorials/intermediate/torchvision_tutorial.html; without pretrained weights, all layers are trainable and BatchNorm
is not frozen, as in torchvision's own builders.
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
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from benchmarks.rivals.tutorial import Tutorial, loaders

LAYERS = {4: 1, 8: 2, 16: 3, 32: 4}
"""ResNet's stages by their stride."""


class Voc(Dataset):
    """Images of Pascal VOC with their boxes. Labels start at 1; 0 is the background."""

    def __init__(self, root: Path, split: str, classes: Sequence[str], transforms: Any) -> None:
        self.root, self.classes, self.transforms = root, list(classes), transforms
        self.names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        name = self.names[index]
        image = Image.open(self.root / "JPEGImages" / f"{name}.jpg").convert("RGB")
        boxes, labels = [], []
        for node in ElementTree.parse(self.root / "Annotations" / f"{name}.xml").iter("object"):
            box = [float(node.findtext(f"bndbox/{corner}", "0")) for corner in ("xmin", "ymin", "xmax", "ymax")]
            if box[2] > box[0] and box[3] > box[1]:
                boxes.append(box)
                labels.append(1 + self.classes.index(node.findtext("name", "")))
        corners = torch.tensor(boxes).reshape(-1, 4)
        target = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(image.height, image.width))
        return self.transforms(image, {"boxes": target, "labels": torch.tensor(labels)})


def map_50(net: nn.Module, loader: DataLoader) -> float:
    metric = MeanAveragePrecision(backend="faster_coco_eval")
    for images, targets in loader:
        metric.update(net(list(images)), list(targets))
    return float(metric.compute()["map_50"])


def collate(samples: Sequence[Any]) -> tuple:
    return tuple(zip(*samples, strict=True))


def detector(
    classes: int,
    fpn_channels: int = 256,
    representation_size: int = 1024,
    strides: Sequence[int] = tuple(LAYERS),
    **options: Any,
) -> nn.Module:
    """Returns torchvision's Faster R-CNN on ResNet-18 with an FPN; `options` are those of `FasterRCNN`."""
    layers = [LAYERS[stride] for stride in strides]
    names = {f"layer{layer}": str(place) for place, layer in enumerate(layers)}
    backbone = BackboneWithFPN(resnet18(), names, [32 * 2**layer for layer in layers], fpn_channels)
    levels = (*strides, 2 * strides[-1])  # and a pooled level
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(tuple((8 * n,) for n in levels), ((0.5, 1.0, 2.0),) * len(levels)),
        box_roi_pool=MultiScaleRoIAlign(list(names.values()), 7, 2),
        box_head=TwoMLPHead(fpn_channels * 7**2, representation_size),
        box_predictor=FastRCNNPredictor(representation_size, classes + 1),
        **options,
    )


def detection(root: Path, classes: Sequence[str], batch_size: int = 4, **sizes: Any) -> Tutorial:
    """Faster R-CNN, with augmentation of the same kind and strength as Resmet's default; `sizes` are those of `detector`."""
    tensor = [v2.ToImage(), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()]
    augment = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.1, 0.1), *tensor])
    train, val = Voc(root, "train", classes, augment), Voc(root, "val", classes, v2.Compose(tensor))
    net = detector(len(classes), **sizes)
    return Tutorial(
        net,
        SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=0.0005),
        *loaders(train, val, batch_size, collate_fn=collate),
        lambda net, batch: sum(net(*map(list, batch)).values()),
        map_50,
    )
