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
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from benchmarks.rivals.tutorial import NUM_WORKERS, Tutorial

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
        for node in ElementTree.parse(self.root / "Annotations" / f"{name}.xml").getroot().iter("object"):
            corners = [float(node.findtext(f"bndbox/{corner}", "0")) for corner in ("xmin", "ymin", "xmax", "ymax")]
            if corners[2] > corners[0] and corners[3] > corners[1]:
                boxes.append(corners)
                labels.append(1 + self.classes.index(node.findtext("name", "")))
        target = tv_tensors.BoundingBoxes(
            torch.tensor(boxes).reshape(-1, 4), format="XYXY", canvas_size=(image.height, image.width)
        )
        return self.transforms(image, {"boxes": target, "labels": torch.tensor(labels)})


class Detector(Tutorial):
    """Lists of images and targets; the net returns its losses."""

    def loss(self, batch: Any) -> Tensor:
        images, targets = batch
        return sum(self.net(list(images), list(targets)).values())

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        metric = MeanAveragePrecision(backend="faster_coco_eval")
        for images, targets in self.val:
            metric.update(self.net(list(images)), list(targets))
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
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, returned_layers=layers
    )
    if len(strides) < len(LAYERS):
        levels = (*strides, 2 * strides[-1])  # and a pooled level
        sizes = tuple((8 * level,) for level in levels)
        options["rpn_anchor_generator"] = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(levels))
        options["box_roi_pool"] = MultiScaleRoIAlign([str(place) for place in range(len(strides))], 7, 2)
    if fpn_channels != 256:
        fpn: Any = backbone.fpn
        channels = [block[0].in_channels for block in fpn.inner_blocks]
        backbone.fpn = type(fpn)(channels, fpn_channels, extra_blocks=fpn.extra_blocks)
        backbone.out_channels = fpn_channels
    net = FasterRCNN(backbone, classes + 1, **options)
    if representation_size != 1024:
        net.roi_heads.box_head = type(net.roi_heads.box_head)(fpn_channels * 49, representation_size)
        net.roi_heads.box_predictor = type(net.roi_heads.box_predictor)(representation_size, classes + 1)
    return net


def detection(root: Path, classes: Sequence[str], batch_size: int = 4, **sizes: Any) -> Detector:
    """Faster R-CNN, with augmentation of the same kind and strength as Resmet's default; `sizes` are those of `detector`."""
    tensor = [v2.ToImage(), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()]
    augment = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.1, 0.1), *tensor])
    train, val = Voc(root, "train", classes, augment), Voc(root, "val", classes, v2.Compose(tensor))
    net = detector(len(classes), **sizes)
    return Detector(
        net,
        SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=0.0005),
        DataLoader(train, batch_size, shuffle=True, num_workers=NUM_WORKERS, collate_fn=collate),
        DataLoader(val, batch_size, num_workers=NUM_WORKERS, collate_fn=collate),
    )
