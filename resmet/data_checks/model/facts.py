"""Measurements of one item, taken when the item is opened."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Facts(TypedDict, total=False):
    """What is measured of one item. Which keys are present depends on the modality and on the kind of target."""

    error: str  # why the item can't be used; no other key is present then
    class_counts: Counter[int]  # {class: items, boxes or pixels}, as `TargetKind.counts` has it
    digest: str  # hash of the decoded signal's shape and values
    thumbnail: NDArray[np.uint8]  # (H, W): the image in gray, or the spectrogram of audio, at the size that is compared

    shape: tuple[int, ...]  # (C, H, W) of an image or frame as it is decoded
    constant: bool  # all pixels are equal
    gray: bool  # a three-channel image whose channels are equal
    size: tuple[int, int]  # width and height of the image or video file, in pixels
    bits: int  # bits per sample of the image file
    orientation: int  # EXIF orientation, 1 to 8
    value_range: tuple[float, ...]  # of more than 8 bits: minimum, 0.1 % and 99.9 % quantiles, maximum
    file_format: str  # such as JPEG or WAV
    mode: str  # Pillow's mode of the image file, or the subtype of the audio file
    alpha: tuple[int, int]  # lowest and highest value of the alpha channel

    seconds: float  # duration of the audio file
    sample_rate: int  # of the audio file, in Hz
    channels: int  # of the audio file
    rms: float  # root mean square of the decoded waveform without trailing silence, full scale is 1
    clipped: float  # share of its samples at full scale

    codec: str  # of the video stream, with its pixel format
    frames: int  # of the video stream
    frame_rate: float  # of the video stream, per second

    object_areas: list[int]  # pixels of every object, with one mask file per object
    touching: int  # objects that share an edge with another one
    overlapping: int  # objects that are partly covered by another one
