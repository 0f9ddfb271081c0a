"""Classification as in torchvision's tutorials and references.

Source: pytorch.org/tutorials/beginner/transfer_learning_tutorial.html; SGD as in torchvision's references/classification, whose learning
rate for 256 images a step is scaled to the batch.
"""

from __future__ import annotations

from pathlib import Path

from torch.optim import SGD
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from benchmarks.rivals.tutorial import Tutorial, classifier, loaders


def classification(root: Path, size: int = 224, batch_size: int = 32) -> Tutorial:
    """ResNet-18 on class folders, with augmentation of the same kind and strength as Resmet's default."""
    resize = [transforms.Resize(size), transforms.CenterCrop(size)]
    augment = [
        transforms.RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1)),
        transforms.ColorJitter(0.1, 0.1),
        transforms.RandomHorizontalFlip(),
    ]
    tensor = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    train = ImageFolder(root / "train", transforms.Compose([*resize, *augment, *tensor]))
    val = ImageFolder(root / "val", transforms.Compose([*resize, *tensor]))
    net = resnet18(num_classes=len(train.classes))
    optimizer = SGD(net.parameters(), lr=0.1 * batch_size / 256, momentum=0.9, weight_decay=1e-4)
    return classifier(net, optimizer, *loaders(train, val, batch_size))
