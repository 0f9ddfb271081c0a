"""Classification as in torchvision's tutorials and references.

Source: pytorch.org/tutorials/beginner/transfer_learning_tutorial.html; SGD as in torchvision's references/classification, whose learning
rate for 256 images a step is scaled to the batch.
"""

from __future__ import annotations

from pathlib import Path

from torch.optim import SGD
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from benchmarks.rivals.tutorial import NUM_WORKERS, Classifier

TENSOR = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


def resize(size: int) -> list:
    return [transforms.Resize(size), transforms.CenterCrop(size)]


def classification(root: Path, size: int = 224, batch_size: int = 32) -> Classifier:
    """ResNet-18 on class folders, with augmentation of the same kind and strength as Resmet's default."""
    augment = [
        transforms.RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1)),
        transforms.ColorJitter(0.1, 0.1),
        transforms.RandomHorizontalFlip(),
    ]
    train = ImageFolder(str(root / "train"), transforms.Compose([*resize(size), *augment, *TENSOR]))
    val = ImageFolder(str(root / "val"), transforms.Compose([*resize(size), *TENSOR]))
    net = resnet18(num_classes=len(train.classes))
    last_of_one = len(train) % batch_size == 1  # BatchNorm can't train on one item
    return Classifier(
        net,
        SGD(net.parameters(), lr=0.1 * batch_size / 256, momentum=0.9, weight_decay=1e-4),
        DataLoader(train, batch_size, shuffle=True, num_workers=NUM_WORKERS, drop_last=last_of_one),
        DataLoader(val, batch_size, num_workers=NUM_WORKERS),
    )
