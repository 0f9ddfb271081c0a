"""Classification of audio. The input is the raw waveform, not a spectrogram.

Source: Dai et al., Very deep convolutional neural networks for raw waveforms, 2016 (arXiv:1610.00087).
"""

from torch import Tensor

from foundation.structures import Batch
from tasks.classification import Classification


class Audio(Classification):
    """Classification over one axis, with every clip brought to the same RMS."""

    axes = (1,)

    def normalize(self, batch: Batch) -> Tensor:
        """Returns the standardized clips (N, C, T), each divided by its RMS."""
        x = super().normalize(batch)
        # The gain of a microphone does not depend on the class; silence stays silent.
        return x / x.pow(2).mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-3)
