"""What the readers of sound files share: length, sample rate, how a clip is opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base.dataset import Sample
from datamodules.base.files import FileDataModule
from datamodules.decoding.audio import audio_length, fit_length, read_audio
from datamodules.splits.splits import Item, Splits
from foundation.structures import InputError, Spec


class AudioDataModule(FileDataModule):
    """Data whose items are sound files below `root`, one class each.

    Args:
        root: The folder of the data.
        seconds: Length of a clip; None takes what 95 of 100 clips fit in. Shorter clips are padded with silence, of longer
            ones the middle is kept.
        sample_rate: Samples per second that all clips are brought to; None takes the most frequent one.
        splits: How the splits that the data lacks are made.
        loading: What `Data` takes besides.

    Raises:
        InputError: If `root` is no folder, or a value is not above 0.
    """

    ndim = 1

    def __init__(
        self, root: str, seconds: float | None, sample_rate: int | None, splits: Splits, **loading: Any
    ) -> None:
        super().__init__(root, splits, **loading)
        for name, value in (("seconds", seconds), ("sample_rate", sample_rate)):
            if value is not None and value <= 0:
                raise InputError(f"data.{name} must be above 0, got {value}")
        self.seconds, self.sample_rate = seconds, sample_rate

    def make_spec(self, names: Iterable[str], paths: Iterable[Path]) -> Spec:
        """The Spec of these clips; a checkpoint's, where one was adopted."""
        if self.checkpoint_spec:
            return self.checkpoint_spec
        heads = []
        for path in paths:
            try:
                heads.append(audio_length(path))
            except InputError:
                continue  # opening it says what is wrong, for all such files at once
        rates = [rate for _, rate in heads] or [self.sample_rate or 16000]
        rate = self.sample_rate or max(sorted(set(rates)), key=rates.count)
        usual = float(np.quantile([frames / own for frames, own in heads] or [1.0], 0.95))
        length = max(1, round((self.seconds or usual) * rate))
        longer = sum(frames / own * rate > length + 1 for frames, own in heads)
        self.notes.append(
            f"clips of {length / rate:.2f} s at {rate} Hz; {longer} of {len(heads)} are longer and keep their middle"
        )
        return Spec(1, 1, tuple(names), size=(length,), resize="pad", sample_rate=rate)

    def load(self, item: Item) -> Sample:
        return fit_length(read_audio(Path(item.name), self.spec.sample_rate), self.spec.size[0]), item.target
