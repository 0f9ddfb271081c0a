"""What the readers of boxes share: what a box may be, and the same boxes whatever the format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.base.box_statistics import small_side
from datamodules.base.dataset import Sample
from datamodules.base.images import ImageDataModule
from datamodules.decoding.exif import Header, exif_transpose_boxes
from datamodules.decoding.image import read_header
from datamodules.splits.splits import Item
from foundation.structures import InputError

LARGEST, SMALLEST, STEP = 800, 256, 32
"""The longest side that images are brought to where nothing else is asked for, in pixels: 800 is what the papers take at most."""

ENOUGH = 24
"""Pixels that a small object's side should have: three cells of the map of stride 8."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Objects:
    """What a format says of one image's objects.

    Attributes:
        file: Where it says so, for messages.
        names: Class names.
        boxes: x1, y1, x2, y2 in pixels, as written.
        width: The picture's stated width, 0 where nothing is stated.
        height: Its stated height, or 0.
        outlines: What the format says of every object's shape.
    """

    file: Path
    names: list[str]
    boxes: list[Box]
    width: int = 0
    height: int = 0
    outlines: tuple[Any, ...] = ()


@dataclass(kw_only=True, eq=False, repr=False)
class BoxDataModule(ImageDataModule):
    """Images with boxes. Boxes without area are dropped, and boxes that reach beyond their image are clipped; a note counts both."""

    batch_size: int = 4

    resize = "inside"
    target = "boxes"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.smallest: float | None = None
        self.dropped, self.clipped = Counter[str](), Counter[str]()

    def make_items(
        self, pairs: dict[str, list[tuple[Path, Objects]]], names: list[str], groups: dict[Path, str] | None = None
    ) -> dict[str, list[Item]]:
        """Items by split, their boxes checked; sets `spec`.

        Args:
            pairs: Images and their objects by split.
            names: Class names in label order.
            groups: Groups by image, where the format knows any.
        """
        if not names:
            raise InputError(
                "data.no_objects", f"{self.root_dir} has no object in its training images: there is nothing to detect"
            )
        headers = self.read_headers([path for members in pairs.values() for path, _ in members])
        self.smallest = share_of_smallest(pairs.get("train", []), headers)
        self.spec = self.make_spec(names, headers)
        found: dict[str, list[Item]] = {split: [] for split in pairs}
        for split, members in pairs.items():
            for path, objects in members:
                target = self.attempt(self.make_target, objects, path, names)
                if target is not None:
                    stratum = tuple(sorted(set(objects.names)))
                    found[split].append(Item(str(path), target, (groups or {}).get(path, ""), stratum))
        self.notes += self.dropped_notes()
        return self.complete_splits(found)

    def dropped_notes(self) -> list[str]:
        """Returns the notes about boxes that were dropped or clipped."""
        changes = {"without area dropped": self.dropped, "beyond the edge of their image clipped": self.clipped}
        notes = []
        for what, counts in changes.items():
            where = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())[:5])
            more = f" and {len(counts) - 5} more images" if len(counts) > 5 else ""
            notes += [f"boxes {what}: {counts.total()}, in {where}{more}"] if counts else []
        return notes

    def make_target(self, objects: Objects, path: Path, names: list[str]) -> Any:
        """Boxes and labels of one image in its upright pixels."""
        unknown = sorted(set(objects.names) - set(names))
        if unknown:
            raise InputError(
                "data.unknown_class",
                f"{objects.file}: class {unknown[0]!r} is not one of the training classes {names}: rename or remove the object",
            )
        boxes = torch.tensor(objects.boxes, dtype=torch.float32).reshape(-1, 4)
        if len(boxes) and 0 < boxes.max() <= 1.5:
            raise InputError(
                "data.relative_boxes",
                f"{objects.file}: the boxes lie in 0..1, pixels are meant: multiply by the image's width and height",
            )
        header = read_header(path)
        if header.orientation != 1 and stored_frame(objects, header):
            boxes = exif_transpose_boxes(boxes, header)
        boxes, keep = self.inside(boxes, objects, path, header)
        labels = torch.tensor([names.index(name) for name in objects.names], dtype=torch.int64)
        return {"boxes": boxes[keep], "labels": labels[keep]}

    def inside(self, boxes: Tensor, objects: Objects, path: Path, header: Header) -> tuple[Tensor, Tensor]:
        """Boxes cut at the edges, and which of them have an area."""
        height, width = header.upright_size
        if len(boxes) and (boxes[:, 0] >= width).any() | (boxes[:, 1] >= height).any() | (boxes[:, 2:] <= -1).any():
            raise InputError(
                "data.box_outside_image",
                f"{objects.file}: a box lies outside its {width}x{height} image {path.name}: correct {objects.file.name} or the image",
            )
        cut = torch.stack([x.clamp(0, m) for x, m in zip(boxes.unbind(1), (width, height) * 2, strict=True)], 1)
        keep = ((cut[:, 2:] - cut[:, :2]) > 0).all(1)
        if lapping := int(((boxes - cut).abs() > 0.5)[keep].any(1).sum()):  # less is rounding
            self.clipped[path.name] += lapping
        if not keep.all():
            self.dropped[path.name] += int((~keep).sum())
        return cut, keep

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        """So large that small objects have `ENOUGH` pixels a side, between `SMALLEST` and `LARGEST` and no larger than the images are."""
        if self.resumed_spec and self.resumed_spec.size:
            return max(self.resumed_spec.size)  # a file that broke since has no say in what the run is used to
        native = min(LARGEST, max((side for shape in shapes for side in shape), default=LARGEST))
        wanted = STEP * round(ENOUGH / self.smallest / STEP) if self.smallest else LARGEST
        return min(native, max(SMALLEST, wanted))

    def load(self, item: Item) -> Sample:
        image, placement = self.open(Path(item.name))
        return image, {"boxes": placement.boxes(item.target["boxes"]), "labels": item.target["labels"]}


def share_of_smallest(members: list[tuple[Path, Objects]], headers: dict[Path, Header]) -> float | None:
    """`small_side` of these images' objects as a share of their image's longest side; None where there is none."""
    sides, names = [], []
    for path, objects in members:
        if path in headers:
            longest = max(headers[path].upright_size)
            sides += [math.sqrt(max(0, x - a) * max(0, y - b)) / longest for a, b, x, y in objects.boxes]
            names += objects.names
    return small_side(sides, names)


def stored_frame(objects: Objects, header: Header) -> bool:
    """Whether boxes were drawn on the picture as stored rather than upright; its stated size tells, if it can.

    Where it can't (square, or turned by half a circle), they are taken as upright: that is what annotation tools show.
    """
    stored, shown = (header.height, header.width), header.upright_size
    return (objects.height, objects.width) == stored != shown


def names_in(objects: Iterable[Objects]) -> set[str]:
    """All class names that occur."""
    return {name for o in objects for name in o.names}
