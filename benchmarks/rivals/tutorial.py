"""The loop of the official tutorials: fp32, default memory format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

NUM_WORKERS = 2
"""Of the loaders, as in the tutorials."""


class Tutorial(ABC):
    """A net, an optimizer, two loaders, and the loop over them."""

    def __init__(self, net: nn.Module, optimizer: Optimizer, train: DataLoader, val: DataLoader) -> None:
        self.net, self.optimizer, self.train, self.val = net, optimizer, train, val

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Returns the loss of a batch."""

    @abstractmethod
    def score(self) -> float:
        """Returns the validation score, the same metric as Resmet's."""

    def step(self, batch: Any) -> None:
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def epoch(self) -> None:
        self.net.train()
        for batch in self.train:
            self.step(batch)

    def repeat_steps(self, batches: int) -> Callable[[], None]:
        """Returns a function that runs one step on the next of the first `batches` batches, from memory."""
        repeated = cycle(islice(self.train, batches))
        self.net.train()
        return lambda: self.step(next(repeated))


class Classifier(Tutorial):
    """Inputs and labels, cross-entropy, accuracy."""

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        correct = total = 0
        for inputs, labels in self.val:
            correct += int((self.net(inputs).argmax(1) == labels).sum())
            total += len(labels)
        return correct / total
