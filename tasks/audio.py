"""What is heard in this clip? The raw waveform goes in, no spectrogram.

Source: Dai et al., Very deep convolutional neural networks for raw waveforms, 2016 (arXiv:1610.00087).
"""

from torch import Tensor

from foundation.structures import Batch
from tasks.classification import Classification


class Audio(Classification):
    """Classification of sound over one axis, every clip brought to the same loudness."""

    axes = (1,)

    def normalise(self, batch: Batch) -> Tensor:
        x = super().normalise(batch)
        # A microphone's gain says nothing about the class; silence stays silent.
        return x / x.pow(2).mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-3)
