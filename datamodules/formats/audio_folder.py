"""Audio files in class folders, with or without split folders."""

from datamodules.base.audio import AudioDataModule
from datamodules.base.class_folders import ClassFolderDataModule


class AudioFolder(AudioDataModule, ClassFolderDataModule):
    """``root/train/dog/1.wav`` or ``root/dog/1.wav``."""
