"""Segmentation as in the examples of segmentation_models.pytorch.

Source: github.com/qubvel-org/segmentation_models.pytorch, examples/camvid_segmentation_multiclass.ipynb: Adam at 2e-4, Dice loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.rivals.tutorial import NUM_WORKERS, Tutorial

DICE = smp.losses.DiceLoss("multiclass", from_logits=True)


class Masked(Dataset):
    """Gray images with masks of two values, 0 and another."""

    def __init__(self, root: Path, transforms: Any) -> None:
        self.paths, self.transforms = sorted((root / "images").iterdir()), transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.paths[index]
        mask = np.asarray(Image.open(path.parent.parent / "masks" / path.name).convert("L")) > 0
        target = tv_tensors.Mask(torch.from_numpy(mask.astype(np.int64)))
        return self.transforms(Image.open(path).convert("L"), target)


class Normalize(v2.Transform):
    """Scales images, not masks, to floats around 0."""

    def transform(self, inpt: Any, params: Any) -> Any:
        return (inpt.float() / 255 - 0.45) / 0.225 if isinstance(inpt, tv_tensors.Image) else inpt


class Segmenter(Tutorial):
    """Images and masks, Dice loss, mean Dice score of both classes."""

    def loss(self, batch: Any) -> Tensor:
        return DICE(self.net(batch[0]), batch[1])

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        counts = torch.zeros(4)
        for images, masks in self.val:
            counts += torch.bincount((2 * masks + self.net(images).argmax(1)).flatten(), minlength=4)
        confusion = counts.reshape(2, 2)
        return float((2 * confusion.diag() / (confusion.sum(0) + confusion.sum(1))).mean())


def segmentation(root: Path, crop: int = 256, batch_size: int = 4) -> Segmenter:
    """U-Net with ResNet-18 on random crops, with augmentation of the same kind and strength as Resmet's."""
    tensor = [v2.ToImage(), Normalize(), v2.ToPureTensor()]
    augment = [v2.RandomCrop(crop), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.ColorJitter(0.1, 0.1)]
    train = Masked(root / "train", v2.Compose([*augment, *tensor]))
    net = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2)
    return Segmenter(
        net,
        Adam(net.parameters(), lr=2e-4),
        DataLoader(train, batch_size, shuffle=True, num_workers=NUM_WORKERS),
        DataLoader(Masked(root / "val", v2.Compose(tensor)), batch_size, num_workers=NUM_WORKERS),
    )
