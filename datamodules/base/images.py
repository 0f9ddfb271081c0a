"""What the readers of image files share: the channels, the size, the depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base.files import FileDataModule
from datamodules.decoding.exif import Header
from datamodules.decoding.image import TIFF, normalization_stats, read_header, read_resized, value_range
from datamodules.decoding.resize import ResizeGeometry
from datamodules.splits.splits import Splits
from foundation.structures import InputError, Spec
from foundation.targets.kinds import TARGETS


class ImageDataModule(FileDataModule):
    """Data whose items are image files below `root`.

    Args:
        root: The folder of the data.
        size: Side in pixels that images are brought to; None lets the format choose.
        channels: 1 (grey), 3 (RGB) or as many as the files have; None takes 1 where all images are grey.
        window: Lowest and highest value of images with more than 8 bits; None takes those that occur.
        splits: How the splits that the data lacks are made.
        loading: What `Data` takes besides.

    Raises:
        InputError: If `root` is no folder, or an argument is out of range.
    """

    resize = "none"

    def __init__(
        self,
        root: str,
        size: int | None,
        channels: int | None,
        window: list[float] | None,
        splits: Splits,
        **loading: Any,
    ) -> None:
        super().__init__(root, splits, **loading)
        if size is not None and size < 1:
            raise InputError(f"data.size must be at least 1 pixel, got {size}")
        if channels is not None and channels < 1:
            raise InputError(
                f"data.channels must be 1 (grey), 3 (RGB), the number that the files have, or null, got {channels}"
            )
        if window is not None and (len(window) != 2 or window[0] >= window[1]):
            raise InputError(f"data.window is the lowest and the highest value, such as [0, 4095], got {window}")
        self.size, self.channels, self.window = size, channels, window

    def look(self, paths: Iterable[Path]) -> dict[Path, Header]:
        """The headers of all images, those that can't be read left out (opening them says why)."""

        def header(path: Path) -> Header | None:
            try:
                return read_header(path)
            except InputError:
                return None

        paths = list(paths)
        with ThreadPoolExecutor() as pool:
            found = zip(paths, pool.map(header, paths), strict=True)
            return {path: head for path, head in found if head}

    def make_spec(self, class_names: Iterable[str], headers: dict[Path, Header]) -> Spec:
        """The Spec of these images; a checkpoint's Spec, where one was adopted, decides all of it."""
        names = tuple(class_names)
        if self.checkpoint_spec:
            return self.checkpoint_spec
        channels = self.channels or self.common_channels(headers)
        side = self.size or self.default_size([header.upright_size for header in headers.values()])
        mean, std = normalization_stats(channels)
        size, resize = ((side, side), self.resize) if side else ((), "none")
        window = self.common_window(headers)
        kinds = {"mask": "masks"}.get(self.kind, self.kind)
        turned = [path.name for path, header in headers.items() if header.orientation != 1]
        if turned and not TARGETS[self.kind].whole_item:
            self.notes.append(
                f"images stored turned (EXIF) are set upright, {len(turned)} of them, such as {turned[0]}; their {kinds} are taken "
                "as drawn on the upright picture, unless their width and height say otherwise"
            )
        if several := {path: head for path, head in headers.items() if head.pages > 1 and head.pages != channels}:
            self.notes.append(
                f"{len(several)} images have several pages, such as {next(iter(several)).name}: the first is taken{pages_hint(several)}"
            )
        return Spec(2, channels, names, mean, std, size, resize, window=window, target=self.kind)

    def common_channels(self, headers: dict[Path, Header]) -> int:
        """1 where all are grey, as many as the files have where that is another number, else 3."""
        found = {header.channels for header in headers.values()}
        many = {count for count in found if count not in (1, 3)}
        if len(many) == 1 and not found - many:
            return many.pop()
        if many:
            raise InputError(
                f"{self.root}: images have {sorted(found)} channels: they must agree; say data.channels=... with data.on_error=skip to leave others out"
            )
        return 1 if found == {1} else 3

    def common_window(self, headers: dict[Path, Header]) -> tuple[float, ...]:
        """The values that become 0 and 255; empty where all images have 8 bits."""
        deep = [path for path, header in headers.items() if header.bits > 8]
        if not deep or self.window:
            return tuple(map(float, self.window or ()))
        with ThreadPoolExecutor() as pool:
            found = [pair for pair in pool.map(value_range, deep) if pair]
        if not found:
            return ()
        low, high = min(pair[0] for pair in found), max(pair[1] for pair in found)
        self.notes.append(
            f"{len(deep)} images have more than 8 bits; values {low:g} to {high:g} become 0 to 255 (data.window=[{low:g},{high:g}])"
        )
        return (low, high)

    @abstractmethod
    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        """The side to use where none was asked for, from all heights and widths; None leaves images as they are."""

    def known_classes(self, train: Iterable[str]) -> list[str]:
        """Class names in label order: a checkpoint's, where one was adopted, else those of the training split."""
        return list(self.checkpoint_spec.class_names) if self.checkpoint_spec else sorted(set(train))

    def open(self, path: Path) -> tuple[Tensor, ResizeGeometry]:
        """An image at its final size, and how it got there."""
        return read_resized(path, self.spec.channels, self.spec.window, self.spec.size, self.spec.resize)


def pages_hint(headers: dict[Path, Header]) -> str:
    """How the grey pages of TIFF files could be read as channels, where all have as many; else nothing."""
    pages = {(header.pages, header.channels, path.suffix.lower() in TIFF) for path, header in headers.items()}
    number = next(iter(headers.values())).pages
    return f" (data.channels={number} reads them as channels)" if pages == {(number, 1, True)} and number != 3 else ""
