"""The contract between every backbone and every head."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from foundation.structures import Features, InputError


def image_memory_format(narrowest: int) -> torch.memory_format:
    """Returns the memory format of (N, C, H, W) in a network whose stages have at least `narrowest` channels.

    It is channels_last, which is faster. Below 16 channels torch 2.15 writes past the end of a gradient on CPUs with AVX-512 (a 1x1
    convolution of stride 2), so the program crashes, or worse.
    """
    return torch.channels_last if narrowest >= 16 else torch.contiguous_format


@dataclass(frozen=True)
class Match:
    """What loading weights did.

    Attributes:
        source: Where the weights came from.
        matched: Number of the backbone's tensors that were loaded.
        total: Number of the backbone's tensors.
        missing: Names that the source does not have.
        mismatched: Names that the source has in another shape; these tensors keep their initial values.
        unused: Names in the source that the backbone does not have.
        head: The weight (C, F) and bias (C,) of a classifier besides the backbone; empty if there is none.
        classes: The class names of that classifier, if the source has them.
        adapted: How kernels were adapted: axes inflated or collapsed, input channels summed or repeated.
    """

    source: str
    matched: int
    total: int
    missing: Sequence[str] = ()
    mismatched: Sequence[str] = ()
    unused: Sequence[str] = ()
    head: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Sequence[str] = ()
    adapted: Sequence[str] = ()

    def __str__(self) -> str:
        parts = [f"{self.matched} of {self.total} backbone tensors matched"]
        parts += self.adapted
        for word, names in (("missing", self.missing), ("of another shape", self.mismatched), ("unused", self.unused)):
            if names:
                parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return f"weights from {self.source}: {'; '.join(parts)}"


class Backbone(nn.Module, ABC):
    """Maps an input to features keyed by stride.

    Attributes:
        ndim: Number of axes of the input.
        in_channels: Channels of the input.
        channels: {stride: channels} of what `forward` returns, known before it runs.
        stages: {stage: names of its modules}, from the stem to the deepest; every parameter belongs to one of them.
        match: What loading weights did; None if training starts from scratch.
    """

    ndim: int
    in_channels: int
    channels: dict[int, int]
    stages: dict[str, tuple[str, ...]]
    match: Match | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """Maps (N, in_channels, *axes) to {stride: (N, channels[stride], *axes / stride)}."""


def require_strides(channels: Mapping[int, int], strides: Sequence[int], consumer: str) -> list[int]:
    """Returns the channels at `strides`, in that order, which `consumer` needs.

    Raises:
        InputError: If a stride is missing; the message lists those that there are.
    """
    absent = [stride for stride in strides if stride not in channels]
    if absent:
        raise InputError(
            "backbone.missing_strides",
            f"{consumer} needs features at strides {list(strides)}, but this backbone has {sorted(channels)}: "
            "choose another backbone or stem",
        )
    return [channels[stride] for stride in strides]
