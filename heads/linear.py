"""A linear classifier on the mean of the deepest features."""

from collections.abc import Mapping

from torch import Tensor, nn

from foundation.structures import Features, require_range


class Pooled(nn.Module):
    """Mean over all positions, dropout, one linear layer. Source: He et al., 2015 (arXiv:1512.03385), section 3.3.

    Args:
        channels: {stride: channels} of the backbone.
        num_classes: Number of logits.
        dropout: Share of features that are dropped while training, 0 to below 1.

    Raises:
        InputError: If `dropout` is outside that.
    """

    def __init__(self, channels: Mapping[int, int], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        require_range("task.dropout", dropout, 0, 1, below=True)
        self.stride = max(channels)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels[self.stride], num_classes)

    @property
    def dense(self) -> list[nn.Module]:
        """What can be compiled as it is."""
        return [self]

    def needed(self, features: Features) -> Features:
        """The deepest features' mean, as one position; `forward` answers it like the features themselves."""
        deepest = features[self.stride]
        return {self.stride: deepest.flatten(2).mean(2).reshape(*deepest.shape[:2], *[1] * (deepest.ndim - 2))}

    def forward(self, features: Features) -> Tensor:
        """Logits (N, num_classes)."""
        return self.linear(self.dropout(features[self.stride].flatten(2).mean(2))).float()
