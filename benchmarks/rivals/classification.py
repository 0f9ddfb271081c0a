"""Classification as torchvision's tutorials and references write it.

Source: pytorch.org/tutorials/beginner/transfer_learning_tutorial.html; SGD as in torchvision's references/classification, its rate for 256
pictures a step scaled to the batch.
"""

from __future__ import annotations

from pathlib import Path

from torch.optim import SGD
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    Normalize,
    RandomAffine,
    RandomHorizontalFlip,
    Resize,
    ToTensor,
)

from benchmarks.rivals.tutorial import WORKERS, Classifier

NORMAL = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def still(size: int) -> list:
    """From a picture of Pillow's to one of `size` pixels."""
    return [Resize(size), CenterCrop(size)]


def classification(root: Path, size: int = 224, batch: int = 32) -> Classifier:
    """ResNet-18 on folders of pictures, which are moved, scaled, mirrored and coloured as much as ours are by default."""
    changes = [RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1)), ColorJitter(0.1, 0.1), RandomHorizontalFlip()]
    train = ImageFolder(str(root / "train"), Compose([*still(size), *changes, ToTensor(), NORMAL]))
    held = ImageFolder(str(root / "val"), Compose([*still(size), ToTensor(), NORMAL]))
    net = resnet18(num_classes=len(train.classes))
    optimizer = SGD(net.parameters(), lr=0.1 * batch / 256, momentum=0.9, weight_decay=1e-4)
    return Classifier(
        net,
        optimizer,
        DataLoader(train, batch, shuffle=True, num_workers=WORKERS, drop_last=len(train) % batch == 1),
        DataLoader(held, batch, num_workers=WORKERS),
    )
