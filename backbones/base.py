"""The contract between every backbone and every head."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from foundation.structures import Features, InputError


def image_memory_format(narrowest: int) -> torch.memory_format:
    """How (N, C, H, W) lies in memory: channels last, which is faster, in nets whose levels have at least `narrowest` channels.

    Below 16 channels torch 2.15 writes past the end of a gradient on processors with AVX-512 (a 1x1 convolution of stride 2), so that
    the program dies, or worse.
    """
    return torch.channels_last if narrowest >= 16 else torch.contiguous_format


@dataclass(frozen=True)
class Match:
    """What loading weights did.

    Attributes:
        source: Where the weights came from.
        matched: Tensors of the backbone that were filled.
        total: Tensors that the backbone has.
        missing: Names that the source does not have.
        reshaped: Names that the source has in another shape; left as they were.
        unused: Names in the source that the backbone does not have.
        head: A classifier's weight (C, F) and bias (C,) found beside the backbone, or empty.
        classes: What that classifier's classes are called, where the source says it.
        adapted: What was done to kernels so that they fit: axes inflated or collapsed, input channels summed or repeated.
    """

    source: str
    matched: int
    total: int
    missing: Sequence[str] = ()
    reshaped: Sequence[str] = ()
    unused: Sequence[str] = ()
    head: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Sequence[str] = ()
    adapted: Sequence[str] = ()

    def __str__(self) -> str:
        parts = [f"{self.matched} of {self.total} backbone tensors matched"]
        parts += self.adapted
        for word, names in (("missing", self.missing), ("of another shape", self.reshaped), ("unused", self.unused)):
            if names:
                parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return f"weights from {self.source}: {'; '.join(parts)}"


class Backbone(nn.Module, ABC):
    """A signal in, features keyed by stride out.

    Attributes:
        ndim: Number of axes that the signal has.
        in_channels: Channels of the signal.
        channels: {stride: channels} of what `forward` gives, known before it runs.
        stages: {stage: names of its modules}, from the stem to the deepest; every parameter lies in one of them.
        match: What loading weights did, or None when training starts from scratch.
    """

    ndim: int
    in_channels: int
    channels: dict[int, int]
    stages: dict[str, tuple[str, ...]]
    match: Match | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """Map (N, in_channels, *axes) to {stride: (N, channels[stride], *axes / stride)}."""


def require(channels: Mapping[int, int], strides: Sequence[int], who: str) -> list[int]:
    """The channels at `strides`, in that order.

    Raises:
        InputError: Naming the strides that are there, if one is absent.
    """
    absent = [stride for stride in strides if stride not in channels]
    if absent:
        raise InputError(
            "backbone.missing_strides",
            f"{who} needs features at strides {list(strides)}, but this backbone has {sorted(channels)}: "
            "choose another backbone or stem",
        )
    return [channels[stride] for stride in strides]
