"""The loop of the official tutorials: fp32, memory as it comes, nothing clever."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

WORKERS = 2
"""Processes that load, as in the tutorials."""


class Tutorial(ABC):
    """A net, an optimizer, a DataLoader, and the loop over it.

    Args:
        net: What learns.
        optimizer: Of its parameters.
        train: Batches to learn from.
        held: Batches to judge by.
    """

    def __init__(self, net: nn.Module, optimizer: Optimizer, train: DataLoader, held: DataLoader | None = None) -> None:
        self.net, self.optimizer, self.train, self.held = net, optimizer, train, held

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """What a step lowers."""

    @abstractmethod
    def score(self) -> float:
        """On the held-out batches, the same figure as our validation score."""

    def step(self, batch: Any) -> None:
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def epoch(self) -> None:
        self.net.train()
        for batch in self.train:
            self.step(batch)


class Classifier(Tutorial):
    """Pairs of inputs and labels, cross-entropy, accuracy."""

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    @torch.no_grad()
    def score(self) -> float:
        self.net.eval()
        hits = items = 0
        for inputs, labels in self.held or ():
            hits += int((self.net(inputs).argmax(1) == labels).sum())
            items += len(labels)
        return hits / items
