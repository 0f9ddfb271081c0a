"""U-Net's decoder over a feature dictionary."""

from collections.abc import Mapping, Sequence

from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from foundation.structures import Features, InputError, require_range


class UNet(nn.Module):
    """Decodes features of all strides into logits at stride 1. Source: Ronneberger et al., 2015 (arXiv:1505.04597).

    Args:
        channels: {stride: channels} of the backbone; every stride is twice the one before.
        num_classes: Number of logits per pixel.
        widths: Channels of the decoder's blocks, the deepest first; a backbone with fewer strides uses the first ones.

    Attributes:
        stride: Height and width of the backbone's input must be divisible by it.

    Raises:
        InputError: If there are too few `widths` for the backbone, or one is below 1.
    """

    def __init__(
        self, channels: Mapping[int, int], num_classes: int, widths: Sequence[int] = (256, 128, 64, 32, 16)
    ) -> None:
        super().__init__()
        self.strides = sorted(channels)
        self.stride = self.strides[-1]
        blocks = self.stride.bit_length() - 1  # each doubles the resolution, from the deepest stride to 1
        for width in widths:
            require_range("task.head.widths", width, 1)
        if len(widths) < blocks:
            raise InputError(
                "config.wrong_length",
                f"task.head.widths has {len(widths)} values, this backbone needs at least {blocks}: add some",
            )
        # The decoder skips its first entry, the image itself.
        self.decoder = UnetDecoder([0, *(channels[s] for s in self.strides)], list(widths[:blocks]), n_blocks=blocks)
        self.logits = nn.Conv2d(widths[blocks - 1], num_classes, 3, padding=1)

    @property
    def compilable(self) -> list[nn.Module]:
        """The modules that `torch.compile` takes."""
        return [self]

    def select(self, features: Features) -> Features:
        """Returns what `forward` needs of the features, for a cache: all of them."""
        return features

    def forward(self, features: Features) -> Tensor:
        """Returns logits (N, num_classes, H, W) at the size of the backbone's input."""
        first = features[self.strides[0]]
        height, width = (side * self.strides[0] for side in first.shape[2:])
        image = first.new_empty(0, 0, height, width)
        return self.logits(self.decoder([image, *(features[s] for s in self.strides)])).float()
