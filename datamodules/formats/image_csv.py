"""Image files named in a CSV table, with one class each or any number of them."""

from dataclasses import dataclass

from datamodules.base.csv_table import TableDataModule
from datamodules.base.images import ImageDataModule


@dataclass(kw_only=True, eq=False, repr=False)
class ImageCsv(ImageDataModule, TableDataModule):
    """A table of image files."""
