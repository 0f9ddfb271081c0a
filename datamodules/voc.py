"""Pascal VOC: an XML file an image, the splits in ImageSets/Main. Source: Everingham et al., 2010 (IJCV 88)."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Generator, Tensor

from datamodules.augment import Augment
from datamodules.base import Item, Sample
from datamodules.image_data import ImageData, outside
from datamodules.images import SUFFIXES, Header, read_header, upright_boxes
from datamodules.splits import complete, split_name
from structures import InputError


@dataclass(frozen=True)
class Objects:
    """What an XML file says: class names, boxes x1, y1, x2, y2 in pixels, and the picture's stated width and height (or 0)."""

    file: Path
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    width: int
    height: int


class Voc(ImageData):
    """``Annotations/*.xml``, ``JPEGImages/*`` and ``ImageSets/Main/{train,val,test}.txt`` in `root` or one folder below it.

    A box is taken as x1, y1, x2, y2 in pixels, as written. Boxes without area are dropped, counted and said; boxes that lap
    over the edge are cut at it.

    Args:
        root: The folder of the data.
        size: Longest side in pixels; None keeps images of up to 800.
        channels: 1 (grey) or 3 (RGB); None takes 1 where all images are grey.
        splits: Shares taken as ``val`` and ``test`` where there is no list for them.
        batch_size: Images a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Keep decoded images in memory where they fit.
        seed: Of splits, shuffle and changes.
        augment: Changes to training images and their boxes.

    Raises:
        InputError: If a folder, image or XML file is missing or can't be read, or a box or class can't be right.
    """

    resize = "inside"
    kind = "boxes"

    def __init__(
        self,
        root: str,
        size: int | None = None,
        channels: int | None = None,
        splits: dict[str, float] | None = None,
        batch_size: int = 4,
        workers: int | None = None,
        cache: bool = True,
        seed: int = 0,
        augment: Callable[[Tensor, Any, Generator], Sample] = Augment(),
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            {"val": 0.1, "test": 0.1} if splits is None else splits,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            seed=seed,
            augment=augment,
        )

    def read(self) -> dict[str, list[Item]]:
        base = find_base(self.root)
        lists = read_lists(base)
        images = {p.stem: p for p in sorted((base / "JPEGImages").iterdir()) if p.suffix.lower() in SUFFIXES}
        parsed = {split: [read_xml(base, stem) for stem in stems] for split, stems in lists.items()}
        lost = [o.file for objects in parsed.values() for o in objects if o.file.stem not in images]
        if lost:
            raise InputError(
                f"{len(lost)} XML files have no image in {base / 'JPEGImages'}, such as {lost[0]}: add the image or remove the XML"
            )
        pairs = {split: [(images[o.file.stem], o) for o in objects] for split, objects in parsed.items()}
        headers = self.look([path for members in pairs.values() for path, _ in members])
        names = self.known_classes(name for o in parsed.get("train", []) for name in o.names)
        if not names:
            raise InputError(f"{base} has no object in its training images: there is nothing to detect")
        self.spec = self.make_spec(names, headers)
        self.dropped, self.cut = Counter[str](), 0
        items = {
            s: [Item(str(path), self.target(o, path, names)) for path, o in members] for s, members in pairs.items()
        }
        if self.dropped:
            where = ", ".join(f"{Path(name).name} ({count})" for name, count in sorted(self.dropped.items())[:5])
            self.notes.append(f"{self.dropped.total()} boxes without area (or turned inside out) were dropped: {where}")
        if self.cut:
            self.notes.append(f"{self.cut} boxes lapped over the edge of their image and were cut there")
        labels = {split: [tuple(sorted(set(o.names))) for _, o in members] for split, members in pairs.items()}
        return complete(items, labels, self.shares["val"], self.shares["test"], self.seed)

    def target(self, objects: Objects, path: Path, names: list[str]) -> dict[str, Tensor]:
        """Boxes and labels of one image in its upright pixels."""
        unknown = sorted(set(objects.names) - set(names))
        if unknown:
            raise InputError(
                f"{objects.file}: class {unknown[0]!r} is not one of the training classes {names}: rename or remove the object"
            )
        boxes = torch.tensor(objects.boxes, dtype=torch.float32).reshape(-1, 4)
        if len(boxes) and 0 < boxes.max() <= 1.5:
            raise InputError(
                f"{objects.file}: the boxes lie in 0..1, pixels are meant: multiply by the image's width and height"
            )
        header = read_header(path)
        if header.orientation != 1 and stored_frame(objects, header):
            boxes = upright_boxes(boxes, header)
        height, width = header.shown
        if len(boxes) and (boxes[:, 0] >= width).any() | (boxes[:, 1] >= height).any() | (boxes[:, 2:] <= -1).any():
            raise InputError(
                f"{objects.file}: a box lies outside its {width}x{height} image {path.name}: mend the XML or the image"
            )
        raw = boxes
        boxes = torch.stack([x.clamp(0, m) for x, m in zip(boxes.unbind(1), (width, height) * 2, strict=True)], 1)
        keep = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        self.cut += int((boxes != raw)[keep].any(1).sum())
        if not keep.all():
            self.dropped[objects.file.name] += int((~keep).sum())
        labels = torch.tensor([names.index(name) for name in objects.names], dtype=torch.int64)
        return {"boxes": boxes[keep], "labels": labels[keep]}

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return min(800, max((side for shape in shapes for side in shape), default=800))

    def load(self, item: Item) -> Sample:
        image, placement = self.open(Path(item.name))
        return image, {"boxes": placement.boxes(item.target["boxes"]), "labels": item.target["labels"]}


def stored_frame(objects: Objects, header: Header) -> bool:
    """Whether boxes were drawn on the picture as stored rather than upright; its stated size tells, if it can.

    Where it can't (square, or turned by half a circle), they are taken as upright: that is what annotation tools show.
    """
    stored, shown = (header.height, header.width), header.shown
    return (objects.height, objects.width) == stored != shown


def find_base(root: Path) -> Path:
    """The folder that holds Annotations and JPEGImages."""
    for base in [root, *sorted(child for child in root.iterdir() if child.is_dir())]:
        if (base / "Annotations").is_dir() and (base / "JPEGImages").is_dir():
            return base
    raise InputError(f"{root} is no Pascal VOC folder: it has no Annotations and JPEGImages, nor has a folder in it")


def read_lists(base: Path) -> dict[str, list[str]]:
    """{split: image names}, from ImageSets/Main; everything as ``train`` where there are no lists."""
    files = sorted((base / "ImageSets" / "Main").glob("*.txt"))
    found = {split: file.read_text().split() for file in files if (split := split_name(file.stem))}
    whole = base / "ImageSets" / "Main" / "trainval.txt"
    if "train" not in found and whole.is_file():
        found["train"] = whole.read_text().split()
    lists = found or {"train": sorted(file.stem for file in (base / "Annotations").glob("*.xml"))}
    if not any(lists.values()):
        raise InputError(f"{base} names no image: ImageSets/Main is empty, or Annotations has no XML file")
    for split, names in lists.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InputError(f"{base}/ImageSets/Main/{split}.txt names {twice[0]} twice: remove one")
    return lists


def read_xml(base: Path, stem: str) -> Objects:
    """Parse ``Annotations/stem.xml``.

    Raises:
        InputError: If it is missing, no XML, or has an object without a name or with a box that is no four numbers.
    """
    file = base / "Annotations" / f"{stem}.xml"
    if outside(base, file):
        raise InputError(f"ImageSets/Main names {stem!r}, which leads out of {base}: remove it")
    try:
        tree = ElementTree.parse(file).getroot()
        names, boxes = [], []
        for thing in tree.iter("object"):
            box = tuple(float(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            name = thing.findtext("name", "").strip()
            if not name or not all(math.isfinite(side) for side in box):
                raise ValueError("an object without a name, or with a box that is not finite")
            names.append(name)
            boxes.append(box)
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except FileNotFoundError as error:
        raise InputError(
            f"{file} is missing, though ImageSets/Main names {stem}: add it or take the name out of the list"
        ) from error
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise InputError(f"{file} can't be read as a VOC annotation ({error}): mend or remove it") from error
    return Objects(file, names, boxes, width, height)  # type: ignore[arg-type]
