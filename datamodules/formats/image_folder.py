"""Images in class folders, with or without split folders."""

from datamodules.base.class_folders import ClassFolderDataModule
from datamodules.base.images import ImageDataModule


class ImageFolder(ImageDataModule, ClassFolderDataModule):
    """``root/train/cat/1.jpg`` or ``root/cat/1.jpg``."""
