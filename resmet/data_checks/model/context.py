"""Everything that the checks know about a folder."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from datamodules.base.files import FileDataModule
from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import FormatMatch
from datamodules.splits.splits import Item
from foundation.structures import InputError
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS

MODALITIES = {1: "audio", 2: "image", 3: "video"}
"""{axes of the input: modality}"""


NO_MATCH = FormatMatch("", 0.0)


@dataclass(frozen=True)
class Guess:
    """A format that a folder may be in, the choice of ``data=``; "" and no reader if none is recognized."""

    format: str = ""
    reader: type[ItemDataModule] | None = None
    match: FormatMatch = NO_MATCH

    def takes(self, key: str) -> bool:
        """Whether the reader has a parameter of this name."""
        return self.reader is not None and key in inspect.signature(self.reader).parameters


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
    clipped: float  # fraction of its samples at full scale

    codec: str  # of the video stream, with its pixel format
    frames: int  # of the video stream
    frame_rate: float  # of the video stream, per second

    object_areas: list[int]  # pixels of every object, with one mask file per object
    touching: int  # objects that share an edge with another one
    overlapping: int  # objects that are partly covered by another one


@dataclass(frozen=True)
class CheckContext:
    """A folder, how it is read, and what was measured of every item. Checks read it and return findings."""

    root: Path
    tree: tuple[str, ...]  # paths of files relative to the root
    guess: Guess
    data: ItemDataModule | None = None  # None if the folder couldn't be read
    splits: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)  # by name of the item
    read_error: InputError | None = None

    @property
    def modality(self) -> str:
        """``image``, ``audio`` or ``video``; empty if nothing was read."""
        return MODALITIES[self.data.ndim] if self.data else ""

    @property
    def kind(self) -> TargetKind | None:
        """The kind of target; None if nothing was read."""
        return TARGETS[self.data.target] if self.data else None

    @property
    def published(self) -> Sequence[str]:
        """The splits that the data comes with; others are made."""
        return self.data.published if isinstance(self.data, FileDataModule) else tuple(self.splits)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.spec.class_names if self.data else ()

    @cached_property
    def usable(self) -> list[tuple[str, Item, Facts]]:
        """(split, item, facts) of every item that could be opened."""
        pairs = ((split, item) for split, items in self.splits.items() for item in items)
        found = ((split, item, self.facts.get(item.name)) for split, item in pairs)
        return [(split, item, facts) for split, item, facts in found if facts and "error" not in facts]

    @cached_property
    def class_counts(self) -> dict[str, Counter[int]]:
        """{split: {class: its items, boxes or pixels}}"""
        counts = {split: Counter[int]() for split in self.splits}
        for split, _, facts in self.usable:
            counts[split].update(facts["class_counts"])
        return counts

    @cached_property
    def unusable(self) -> list[str]:
        """The reader's message about every item that can't be used."""
        messages = [facts["error"] for facts in self.facts.values() if "error" in facts]
        messages += self.data.skipped if self.data else []
        return [message.replace(f"{self.root}/", "") for message in messages]

    def relative(self, name: str) -> str:
        """Returns an item's path relative to the root."""
        return name.removeprefix(f"{self.root}/")
