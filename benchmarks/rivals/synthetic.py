"""timm's ResNet-50 in a plain loop on pictures that are on the device already: bf16, channels last, compiled."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn
from torch.optim import SGD


class Synthetic:
    """One step after another on one batch, as large as a batch of ours.

    Args:
        batch: A batch of ours.
        device: ``cuda`` or ``cpu``.
        compiled: Whether to compile the net.
    """

    def __init__(self, batch: Any, device: str, compiled: bool) -> None:
        self.device = device
        self.images = torch.randn(batch["input"].shape, device=device).to(memory_format=torch.channels_last)
        self.labels = batch["target"].to(device)
        net = timm.create_model("resnet50", num_classes=int(batch["target"].max()) + 1)
        net = net.to(device).to(memory_format=torch.channels_last).train()
        self.optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.0005)
        self.net = torch.compile(net) if compiled else net

    def step(self) -> None:
        with torch.autocast(self.device, torch.bfloat16):
            loss = nn.functional.cross_entropy(self.net(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
