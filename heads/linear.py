"""A linear classifier on globally pooled features."""

from collections.abc import Mapping

from torch import Tensor, nn

from foundation.structures import Features, require_range


class LinearHead(nn.Module):
    """Global average pooling, dropout and one linear layer. Source: He et al., 2015 (arXiv:1512.03385), section 3.3.

    Args:
        channels: {stride: channels} of the backbone.
        num_classes: Number of logits.
        dropout: Fraction of features that are dropped in training, from 0 to below 1.

    Raises:
        InputError: If `dropout` is out of range.
    """

    def __init__(self, channels: Mapping[int, int], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        require_range("task.dropout", dropout, 0, 1, below=True)
        self.stride = max(channels)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels[self.stride], num_classes)

    @property
    def compilable(self) -> list[nn.Module]:
        """The modules that `torch.compile` takes."""
        return [self]

    def select(self, features: Features) -> Features:
        """Returns what `forward` needs of the features, for a cache: the mean of the deepest ones, as a map of one position."""
        deepest = features[self.stride]
        return {self.stride: deepest.flatten(2).mean(2).reshape(*deepest.shape[:2], *[1] * (deepest.ndim - 2))}

    def forward(self, features: Features) -> Tensor:
        """Returns logits (N, num_classes)."""
        return self.linear(self.dropout(features[self.stride].flatten(2).mean(2))).float()
