"""The base class of readers of bounding boxes: which boxes are valid, and the size of their images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datamodules.base.box_statistics import small_side
from datamodules.base.images import ImageDataModule
from datamodules.decoding.exif import Header, exif_transpose_boxes
from datamodules.decoding.image import read_header
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample

MAX_SIDE, MIN_SIDE, STEP = 800, 256, 32
"""The longest side that images are resized to by default, in pixels: the papers take 800 at most."""

OBJECT_SIDE = 24
"""Pixels that the side of a small object should have: three cells of the feature map of stride 8."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageAnnotations:
    """The annotated objects of one image.

    Attributes:
        file: The annotation file, for messages.
        names: Class names.
        boxes: x1, y1, x2, y2 in pixels, as written.
        width: The width of the image according to the file; 0 if it has none.
        height: The height, likewise.
        outlines: The shape of every object, as the format writes it.
    """

    file: Path
    names: list[str]
    boxes: list[Box]
    width: int = 0
    height: int = 0
    segmentations: tuple[Any, ...] = ()

    def annotation_size(self, header: Header) -> tuple[int, int]:
        """Returns height and width of the image that the coordinates refer to: as stored, if the file gives that size, else upright.

        If both are the same size (a square, or a rotation by 180 degrees), annotation tools show the upright image.
        """
        stored = (header.height, header.width)
        return stored if (self.height, self.width) == stored else header.upright_size


Annotated = tuple[Path, ImageAnnotations]
"""An image and its objects."""


@dataclass(kw_only=True, eq=False, repr=False)
class BoxDataModule(ImageDataModule):
    """Images with boxes. Boxes without area are dropped, and boxes that reach beyond their image are clipped; a note counts both."""

    batch_size: int = 4

    resize = "inside"
    target = "boxes"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training: list[Annotated] = []
        self.dropped, self.clipped = Counter[str](), Counter[str]()

    def make_items(self, images: dict[str, list[Annotated]], class_names: list[str]) -> dict[str, list[Item]]:
        """Returns the items by split, their targets checked; sets `spec`."""
        if not class_names:
            message = f"{self.root_dir} has no object in its training images: there is nothing to detect"
            raise InputError("data.no_objects", message)
        self.training = images.get("train", [])
        self.spec = self.make_spec(class_names, [path for members in images.values() for path, _ in members])

        def item(image: Annotated) -> Item:
            path, objects = image
            if unknown := sorted(set(objects.names) - set(class_names)):
                message = f"{objects.file}: class {unknown[0]!r} is not one of the training classes {class_names}: rename or remove the object"
                raise InputError("data.unknown_class", message)
            labels = [class_names.index(name) for name in objects.names]
            return Item(str(path), self.make_target(objects, labels, path), stratum=tuple(sorted(set(objects.names))))

        found = {split: self.attempt_all(item, members) for split, members in images.items()}
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

    def make_target(self, objects: ImageAnnotations, labels: list[int], path: Path) -> Any:
        """Returns the boxes of one image in its upright pixels, and their labels."""
        header = read_header(path)
        height, width = header.upright_size
        boxes = torch.tensor(objects.boxes, dtype=torch.float32).reshape(-1, 4)
        if len(boxes) and 0 < boxes.max() <= 1.5:
            message = (
                f"{objects.file}: the boxes are relative, from 0 to 1: multiply them by the image's width and height"
            )
            raise InputError("data.relative_boxes", message)
        if objects.annotation_size(header) != header.upright_size:
            boxes = exif_transpose_boxes(boxes, header)
        if len(boxes) and (boxes[:, 0] >= width).any() | (boxes[:, 1] >= height).any() | (boxes[:, 2:] <= -1).any():
            message = f"{objects.file}: a box lies outside its {width}x{height} image {path.name}: correct {objects.file.name} or the image"
            raise InputError("data.box_outside_image", message)
        clipped = boxes.clamp(min=0).minimum(torch.tensor([width, height] * 2))
        valid = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)
        if beyond := int(((boxes - clipped).abs() > 0.5)[valid].any(1).sum()):  # less is rounding
            self.clipped[path.name] += beyond
        if not valid.all():
            self.dropped[path.name] += int((~valid).sum())
        return {"boxes": clipped[valid], "labels": torch.tensor(labels, dtype=torch.int64)[valid]}

    def default_size(self, headers: dict[Path, Header]) -> int | None:
        """Returns the side at which small objects have `OBJECT_SIDE` pixels, from `MIN_SIDE` to `MAX_SIDE` and never above that of the images.

        A resumed run keeps its size, whatever became unreadable since.
        """
        if self.resumed_spec and self.resumed_spec.size:
            return max(self.resumed_spec.size)
        sides, names = [], []
        for path, objects in self.training:
            if path in headers:
                longest = max(headers[path].upright_size)
                sides += [math.sqrt(max(0, x2 - x1) * max(0, y2 - y1)) / longest for x1, y1, x2, y2 in objects.boxes]
                names += objects.names
        smallest = small_side(sides, names)
        wanted = STEP * round(OBJECT_SIDE / smallest / STEP) if smallest else MAX_SIDE
        largest = max((max(header.upright_size) for header in headers.values()), default=MAX_SIDE)
        return min(MAX_SIDE, largest, max(MIN_SIDE, wanted))

    def load(self, item: Item) -> Sample:
        image, geometry = self.open(Path(item.name))
        return image, item.target | {"boxes": geometry.boxes(item.target["boxes"])}


def names_in(images: Iterable[Annotated]) -> list[str]:
    """Returns the class names of all objects, sorted."""
    return sorted({name for _, objects in images for name in objects.names})
