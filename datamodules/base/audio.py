"""The base class of readers of audio files: length, sample rate, and opening of a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.base.files import FileDataModule, read_all
from datamodules.decoding.audio import SUFFIXES, audio_length, fit_length, read_audio
from datamodules.splits.splits import Item
from datamodules.transforms.augment import AudioAugment
from datamodules.transforms.base import RandomTransform
from foundation.structures import Sample, Spec, require_range


@dataclass(kw_only=True, eq=False, repr=False)
class AudioDataModule(FileDataModule):
    """Data whose items are audio files.

    Args:
        seconds: Length of a clip; None takes the length that 95 % of the clips fit in. Shorter clips are padded with silence, longer
            ones are cropped to their middle.
        sample_rate: Samples per second that all clips are resampled to; None takes the most frequent one.
    """

    seconds: float | None = None
    sample_rate: int | None = None
    augment: RandomTransform = AudioAugment()

    ndim = 1
    suffixes, modality = SUFFIXES, "audio"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("seconds", self.seconds), ("sample_rate", self.sample_rate)):
            if value is not None:
                require_range(f"data.{name}", value, 0, above=True)

    def make_spec(self, class_names: Iterable[str], paths: Iterable[Path]) -> Spec:
        """Returns the Spec of these clips; a checkpoint's Spec replaces it."""
        if self.checkpoint_spec:
            return self.checkpoint_spec
        lengths = [length for _, length in read_all(audio_length, paths)]
        rates = [rate for _, rate in lengths] or [self.sample_rate or 16000]
        rate = self.sample_rate or max(sorted(set(rates)), key=rates.count)
        usual = float(np.quantile([frames / clip_rate for frames, clip_rate in lengths] or [1.0], 0.95))
        length = max(1, round((self.seconds or usual) * rate))
        longer = sum(frames / clip_rate * rate > length + 1 for frames, clip_rate in lengths)
        self.notes.append(
            f"clips of {length / rate:.2f} s at {rate} Hz; {longer} of {len(lengths)} are longer and are cropped to their middle"
        )
        return Spec(1, 1, tuple(class_names), size=(length,), resize="pad", sample_rate=rate, target=self.target)

    def load(self, item: Item) -> Sample:
        return fit_length(read_audio(Path(item.name), self.spec.sample_rate), self.spec.size[0]), item.target
