"""What the readers of audio files share: length, sample rate, and how a clip is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator, Tensor

from datamodules.base.files import FileDataModule
from datamodules.decoding.audio import audio_length, fit_length, read_audio
from datamodules.splits.splits import Item
from datamodules.transforms.augment import AudioAugment
from datamodules.transforms.base import RandomTransform
from foundation.structures import InputError, Sample, Spec, require_range


@dataclass(kw_only=True, eq=False, repr=False)
class AudioDataModule(FileDataModule):
    """Data whose items are audio files with one class each.

    Args:
        seconds: Length of a clip; None takes the length that 95 % of the clips fit in. Shorter clips are padded with silence, longer
            ones are cut to their middle.
        sample_rate: Samples per second that all clips are resampled to; None takes the most frequent one.
    """

    seconds: float | None = None
    sample_rate: int | None = None
    augment: RandomTransform | Callable[[Tensor, Any, Generator], Sample] = AudioAugment()

    ndim = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("seconds", self.seconds), ("sample_rate", self.sample_rate)):
            if value is not None:
                require_range(f"data.{name}", value, 0, above=True)

    def make_spec(self, names: Iterable[str], paths: Iterable[Path]) -> Spec:
        """Returns the Spec of these clips; a checkpoint's Spec replaces it."""
        if self.checkpoint_spec:
            return self.checkpoint_spec
        heads = []
        for path in paths:
            try:
                heads.append(audio_length(path))
            except InputError:
                continue  # opening it raises the reason, for all such files at once
        rates = [rate for _, rate in heads] or [self.sample_rate or 16000]
        rate = self.sample_rate or max(sorted(set(rates)), key=rates.count)
        usual = float(np.quantile([frames / own for frames, own in heads] or [1.0], 0.95))
        length = max(1, round((self.seconds or usual) * rate))
        longer = sum(frames / own * rate > length + 1 for frames, own in heads)
        self.notes.append(
            f"clips of {length / rate:.2f} s at {rate} Hz; {longer} of {len(heads)} are longer and are cut to their middle"
        )
        return Spec(1, 1, tuple(names), size=(length,), resize="pad", sample_rate=rate)

    def load(self, item: Item) -> Sample:
        return fit_length(read_audio(Path(item.name), self.spec.sample_rate), self.spec.size[0]), item.target
