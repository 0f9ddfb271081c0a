"""Audio files named in a CSV table, with one class each or any number of them."""

from dataclasses import dataclass

from datamodules.base.audio import AudioDataModule
from datamodules.base.csv_table import TableDataModule


@dataclass(kw_only=True, eq=False, repr=False)
class AudioCsv(AudioDataModule, TableDataModule):
    """A table of audio files."""
