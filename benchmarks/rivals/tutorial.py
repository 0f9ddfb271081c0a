"""The loop of the official tutorials: fp32, default memory format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset


@dataclass
class Tutorial:
    """A net, an optimizer, two loaders, the loss of a batch, and the validation score, which is the same metric as Resmet's."""

    net: nn.Module
    optimizer: Optimizer
    train: DataLoader
    val: DataLoader
    loss: Callable[[nn.Module, Any], Tensor]
    score: Callable[[nn.Module, DataLoader], float]

    def step(self, batch: Any) -> None:
        loss = self.loss(self.net, batch)
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

    @torch.no_grad()
    def evaluate(self) -> float:
        self.net.eval()
        return self.score(self.net, self.val)


def loaders(train: Dataset, val: Dataset, batch_size: int, **options: Any) -> tuple[DataLoader, DataLoader]:
    """Two workers, as in the tutorials; BatchNorm can't train on a last batch of one item."""
    drop_last = len(train) % batch_size == 1  # type: ignore[arg-type]
    return (
        DataLoader(train, batch_size, shuffle=True, num_workers=2, drop_last=drop_last, **options),
        DataLoader(val, batch_size, num_workers=2, **options),
    )


def classifier(net: nn.Module, optimizer: Optimizer, train: DataLoader, val: DataLoader) -> Tutorial:
    """Inputs and labels, cross-entropy, accuracy."""
    return Tutorial(
        net, optimizer, train, val, lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]), accuracy
    )


def accuracy(net: nn.Module, loader: DataLoader) -> float:
    correct = [net(inputs).argmax(1) == labels for inputs, labels in loader]
    return float(torch.cat(correct).float().mean())
