"""What the readers of image files share: the root, the channels, the size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base import Data
from datamodules.images import Header, Placement, apply, place, read_header, read_image, statistics
from structures import InputError, Spec


class ImageData(Data):
    """Data whose items are image files below `root`.

    Args:
        root: The folder of the data.
        size: Side in pixels that images are brought to; None lets the format choose.
        channels: 1 (grey) or 3 (RGB); None takes 1 where all images are grey.
        splits: ``val`` and ``test``, the shares (0 to 1) to take where the data has no such split.
        loading: What `Data` takes besides.

    Raises:
        InputError: If `root` is no folder, or an argument is out of range.
    """

    resize = "none"

    def __init__(
        self, root: str, size: int | None, channels: int | None, splits: dict[str, float], **loading: Any
    ) -> None:
        super().__init__(**loading)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"data.root={root}: there is no such folder: give the folder that holds the data")
        if size is not None and size < 1:
            raise InputError(f"data.size must be at least 1 pixel, got {size}")
        if channels not in (None, 1, 3):
            raise InputError(f"data.channels must be 1 (grey), 3 (RGB) or null, got {channels}")
        for name, share in splits.items():
            if name not in ("val", "test") or not 0 <= share < 1:
                raise InputError(f"data.splits takes val and test, each from 0 to below 1, got {name}: {share}")
        self.size, self.channels, self.shares = size, channels, {"val": 0.0, "test": 0.0} | splits
        self.placements: dict[str, Placement] = {}

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
        """The Spec of these images; a checkpoint's Spec, where one was adopted, decides channels and size."""
        names = tuple(class_names)
        if self.given:
            return self.given
        channels = self.channels or (1 if all(header.grey for header in headers.values()) else 3)
        side = self.size or self.default_size([header.shown for header in headers.values()])
        mean, std = statistics(channels)
        size, resize = ((side, side), self.resize) if side else ((), "none")
        return Spec(2, channels, names, mean, std, size, resize, target=self.kind)

    @abstractmethod
    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        """The side to use where none was asked for, from all heights and widths; None leaves images as they are."""

    def known_classes(self, train: Iterable[str]) -> list[str]:
        """Class names in label order: a checkpoint's, where one was adopted, else those of the training split."""
        return list(self.given.class_names) if self.given else sorted(set(train))

    def open(self, path: Path) -> tuple[Tensor, Placement]:
        """An image at its final size, and how it got there."""
        image = read_image(path, self.spec.channels)
        placement = place(image.shape[1], image.shape[2], self.spec.size, self.spec.resize)
        return apply(image, placement, self.spec.size), placement


def outside(root: Path, path: Path) -> bool:
    """Whether `path` leads out of `root`."""
    return not path.resolve().is_relative_to(root.resolve())
