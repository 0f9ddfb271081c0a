"""Segmentation as in the examples of segmentation_models.pytorch.

Source: github.com/qubvel-org/segmentation_models.pytorch, examples/camvid_segmentation_multiclass.ipynb: Adam at 2e-4, Dice loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.rivals.tutorial import Tutorial, loaders


class Masked(Dataset):
    """Gray images with masks of two values, 0 and another."""

    def __init__(self, root: Path, transforms: Any) -> None:
        self.paths, self.transforms = sorted((root / "images").iterdir()), transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.paths[index]
        mask = v2.functional.pil_to_tensor(Image.open(path.parent.parent / "masks" / path.name).convert("L"))[0] > 0
        return self.transforms(Image.open(path).convert("L"), tv_tensors.Mask(mask.long()))


def mean_dice(net: nn.Module, loader: DataLoader) -> float:
    """The mean Dice score of both classes."""
    stats = [
        smp.metrics.get_stats(net(images).argmax(1), masks, mode="multiclass", num_classes=2)
        for images, masks in loader
    ]
    counts = [torch.cat(batches) for batches in zip(*stats, strict=True)]
    return float(smp.metrics.f1_score(*counts, reduction="macro"))


def segmentation(root: Path, crop: int = 256, batch_size: int = 4) -> Tutorial:
    """U-Net with ResNet-18 on random crops, with augmentation of the same kind and strength as Resmet's."""
    image_type = {tv_tensors.Image: torch.float32, "others": None}
    tensor = [v2.ToImage(), v2.ToDtype(image_type, scale=True), v2.Normalize([0.45], [0.225]), v2.ToPureTensor()]
    augment = [v2.RandomCrop(crop), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.ColorJitter(0.1, 0.1)]
    train = Masked(root / "train", v2.Compose([*augment, *tensor]))
    val = Masked(root / "val", v2.Compose(tensor))
    net = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2)
    dice = smp.losses.DiceLoss("multiclass", from_logits=True)
    optimizer = Adam(net.parameters(), lr=2e-4)
    return Tutorial(
        net, optimizer, *loaders(train, val, batch_size), lambda net, batch: dice(net(batch[0]), batch[1]), mean_dice
    )
