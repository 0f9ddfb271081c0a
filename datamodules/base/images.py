"""The base class of readers of image files: channels, size and bit depth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from datamodules.base.files import FileDataModule, read_all
from datamodules.decoding.exif import Header
from datamodules.decoding.image import SUFFIXES, TIFF, normalization_stats, read_header, read_resized, value_range
from datamodules.decoding.resize import ResizeGeometry
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample, Spec, require_range
from foundation.targets.kinds import TARGETS

CLASSIFIED_SIDE = 224
"""Side in pixels of images to classify. Source: He et al., 2015 (arXiv:1512.03385), section 3.4."""


@dataclass(kw_only=True, eq=False, repr=False)
class ImageDataModule(FileDataModule):
    """Data whose items are image files.

    Args:
        size: Side in pixels that images are resized to; None lets the format choose, see `default_size`.
        channels: 1 (gray), 3 (RGB) or another number that the files have; None takes that of the files.
        window: Lowest and highest value of images with more than 8 bits; None takes those that occur.
    """

    size: int | None = None
    channels: int | None = None
    window: list[float] | None = None

    resize = "crop"
    suffixes, modality = SUFFIXES, "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("size", self.size), ("channels", self.channels)):
            if value is not None:
                require_range(f"data.{name}", value, 1)
        if self.window is not None and (len(self.window) != 2 or self.window[0] >= self.window[1]):
            message = f"data.window is the lowest and the highest value, such as [0, 4095], got {self.window}"
            raise InputError("config.out_of_range", message)

    def make_spec(self, class_names: Iterable[str], paths: Iterable[Path]) -> Spec:
        """Returns the Spec of these images; a checkpoint's Spec replaces it."""
        if self.checkpoint_spec:
            return self.checkpoint_spec
        headers = dict(read_all(read_header, paths))
        channels = self.channels or self.common_channels(headers)
        side = self.size or self.default_size(headers)
        mean, std = normalization_stats(channels)
        size, resize = ((side, side), self.resize) if side else ((), "none")
        window = self.common_window(headers)
        self.note_conversions(headers, channels)
        return Spec(2, channels, tuple(class_names), mean, std, size, resize, window=window, target=self.target)

    def note_conversions(self, headers: dict[Path, Header], channels: int) -> None:
        """Notes images that are rotated upright, and pages that are not used."""
        rotated = [path.name for path, header in headers.items() if header.orientation != 1]
        if rotated and not TARGETS[self.target].whole_item:
            self.notes.append(
                f"images with an EXIF orientation are rotated upright, {len(rotated)} of them, such as {rotated[0]}; their annotations "
                "are taken as drawn on the upright image, unless their width and height say otherwise"
            )
        if several := {path: head for path, head in headers.items() if head.pages > 1 and head.pages != channels}:
            first = next(iter(several)).name
            self.notes.append(
                f"{len(several)} images have several pages, such as {first}: the first is used{pages_hint(several)}"
            )

    def common_channels(self, headers: dict[Path, Header]) -> int:
        """Returns 1 if all images are gray, their number of channels if it is neither 1 nor 3, else 3."""
        found = {header.channels for header in headers.values()}
        many = {count for count in found if count not in (1, 3)}
        if len(many) == 1 and not found - many:
            return many.pop()
        if many:
            message = f"{self.root_dir}: images have {sorted(found)} channels: they must agree; data.channels=N data.on_error=skip excludes others"
            raise InputError("data.mixed_channels", message)
        return 1 if found == {1} else 3

    def common_window(self, headers: dict[Path, Header]) -> tuple[float, ...]:
        """Returns the values that become 0 and 255; empty if all images have 8 bits."""
        deep = [path for path, header in headers.items() if header.bits > 8]
        if not deep or self.window:
            return tuple(map(float, self.window or ()))
        found = [pair for _, pair in read_all(value_range, deep)]
        if not found:
            return ()
        low, high = min(pair[0] for pair in found), max(pair[1] for pair in found)
        self.notes.append(
            f"{len(deep)} images have more than 8 bits; values {low:g} to {high:g} become 0 to 255 (data.window=[{low:g},{high:g}])"
        )
        return (low, high)

    def default_size(self, headers: dict[Path, Header]) -> int | None:
        """Returns the side to use if none is configured; None leaves images as they are.

        Images to classify get the one side that all of them have, if it is at most `CLASSIFIED_SIDE`, else that.
        """
        sides = {side for header in headers.values() for side in header.upright_size}
        return min(*sides, CLASSIFIED_SIDE) if len(sides) == 1 else CLASSIFIED_SIDE

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target

    def open(self, path: Path) -> tuple[Tensor, ResizeGeometry]:
        """Returns an image at its final size, and how it was resized."""
        return read_resized(path, self.spec.channels, self.spec.window, self.spec.size, self.spec.resize)


def pages_hint(headers: dict[Path, Header]) -> str:
    """Returns how the gray pages of TIFF files can be read as channels, if all have the same number, else ""."""
    pages = {(header.pages, header.channels, path.suffix.lower() in TIFF) for path, header in headers.items()}
    number = next(iter(headers.values())).pages
    return f" (data.channels={number} reads them as channels)" if pages == {(number, 1, True)} and number != 3 else ""
