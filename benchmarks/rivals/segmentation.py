"""Segmentation as the examples of segmentation_models.pytorch write it.

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

from benchmarks.rivals.tutorial import WORKERS, Tutorial


class Slices(Dataset):
    """Grey pictures with masks of two values, 0 and another."""

    def __init__(self, root: Path, transforms: Any) -> None:
        self.paths, self.transforms = sorted((root / "images").iterdir()), transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.paths[index]
        image = Image.open(path).convert("L")
        mask = np.asarray(Image.open(path.parent.parent / "masks" / path.name).convert("L")) > 0
        return self.transforms(image, tv_tensors.Mask(torch.from_numpy(mask.astype(np.int64))))


class Segmenter(Tutorial):
    """Pairs of pictures and masks, Dice loss, mean Dice of both classes."""

    def loss(self, batch: Any) -> Tensor:
        return DICE(self.net(batch[0]), batch[1])

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        matrix = torch.zeros(4)
        for images, masks in self.held or ():
            said = self.net(images).argmax(1)
            matrix += torch.bincount((2 * masks + said).flatten(), minlength=4)
        matrix = matrix.reshape(2, 2)
        return float((2 * matrix.diag() / (matrix.sum(0) + matrix.sum(1))).mean())


DICE = smp.losses.DiceLoss("multiclass", from_logits=True)


def segmentation(root: Path, crop: int = 256, batch: int = 4) -> Segmenter:
    """U-Net with ResNet-18 on cut-outs that are mirrored and coloured as much as ours are."""
    tail = [v2.ToImage(), Scale(), v2.ToPureTensor()]
    flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    change = v2.Compose([v2.RandomCrop(crop), *flips, v2.ColorJitter(0.1, 0.1), *tail])
    train, held = Slices(root / "train", change), Slices(root / "val", v2.Compose(tail))
    net = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2)
    return Segmenter(
        net,
        Adam(net.parameters(), lr=2e-4),
        DataLoader(train, batch, shuffle=True, num_workers=WORKERS),
        DataLoader(held, batch, num_workers=WORKERS),
    )


class Scale(v2.Transform):
    """Pictures, not masks, as floats about 0."""

    def transform(self, inpt: Any, params: Any) -> Any:
        return (inpt.float() / 255 - 0.45) / 0.225 if isinstance(inpt, tv_tensors.Image) else inpt
