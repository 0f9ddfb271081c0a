"""Data modules that are set up, and what they hold."""

from typing import TypeVar

from datamodules.base.datamodule import DataModule

Data = TypeVar("Data", bound=DataModule)


def set_up(data: Data) -> Data:
    """Returns `data` after ``setup("fit")``."""
    data.setup("fit")
    return data


def split_sizes(data: DataModule) -> dict[str, int]:
    return {split: len(items) for split, items in data.datasets.items()}
