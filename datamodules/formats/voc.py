"""Pascal VOC: an XML file an image, the splits in ImageSets/Main. Source: Everingham et al., 2010 (IJCV 88)."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from datamodules.base.boxes import BoxDataModule, Objects, names_in
from datamodules.base.recognition import FormatMatch, Tree, paths_in
from datamodules.decoding.image import SUFFIXES
from datamodules.splits.splits import Item, split_name
from foundation.storage.paths import outside
from foundation.structures import InputError, first_line, pluralize

ANNOTATIONS, IMAGES = ("Annotations", "annotations"), ("JPEGImages", "images")


@dataclass(kw_only=True, eq=False, repr=False)
class Voc(BoxDataModule):
    """``Annotations/*.xml``, ``JPEGImages/*`` and ``ImageSets/Main/{train,val,test}.txt`` in `root` or one folder below it.

    Annotation tools also write ``annotations/*.xml`` and ``images/*``.

    A box is taken as x1, y1, x2, y2 in pixels, as written: today's tools write edges counted from 0, the sets of 2007 to 2012 pixels
    counted from 1, which differs by half a pixel. Boxes without area are dropped, counted and said; boxes that lap
    over the edge are cut at it.

    Args:
        difficult: Whether to use the objects that are marked as difficult; VOC's own evaluation ignores them.

    Raises:
        InputError: If a folder, image or XML file is missing or can't be read, or a box or class can't be right.
    """

    difficult: bool = True

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        annotated = Counter(
            (path.parent.parent, path.parent.name)
            for path in paths_in(tree, {".xml"})
            if path.parent.name in ANNOTATIONS
        )
        images = Counter(path.parent for path in paths_in(tree, SUFFIXES))
        for (base, written), number in annotated.most_common(1):
            for folder in IMAGES:
                if held := images[base / folder]:
                    files = pluralize(number, "XML file")
                    return FormatMatch(f"{base / written} has {files}, {base / folder} {pluralize(held, 'image')}", 0.9)
        return None

    def read(self) -> dict[str, list[Item]]:
        base = find_base(self.root_dir)
        lists = read_lists(base)
        folder = folder_of(base, IMAGES)
        images = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}

        def pair(stem: str) -> tuple[Path, Objects]:
            objects = read_xml(base, stem, self.difficult)
            if stem not in images:
                raise InputError(
                    "data.missing_image", f"{objects.file} has no image in {folder}: add the image or remove the XML"
                )
            return images[stem], objects

        pairs = {
            split: [made for stem in stems if (made := self.attempt(pair, stem))] for split, stems in lists.items()
        }
        names = self.known_classes(names_in(objects for _, objects in pairs.get("train", [])))
        return self.make_items(pairs, names)


def find_base(root: Path) -> Path:
    """The folder that holds annotations and images."""
    for base in [root, *sorted(child for child in root.iterdir() if child.is_dir())]:
        if folder_of(base, ANNOTATIONS).is_dir() and folder_of(base, IMAGES).is_dir():
            return base
    raise InputError(
        "data.missing_folder",
        f"{root} is no Pascal VOC folder: it has no Annotations and JPEGImages (or annotations and images), nor has a folder in it",
    )


def folder_of(base: Path, names: tuple[str, ...]) -> Path:
    """The folder in `base` of the first of `names` that is there."""
    return next((base / name for name in names if (base / name).is_dir()), base / names[0])


def read_lists(base: Path) -> dict[str, list[str]]:
    """{split: image names}, from ImageSets/Main; everything as ``train`` where there are no lists."""
    files = sorted((base / "ImageSets" / "Main").glob("*.txt"))
    found = {split: names_in_list(base, file) for file in files if (split := split_name(file.stem))}
    whole = base / "ImageSets" / "Main" / "trainval.txt"
    if "train" not in found and whole.is_file():
        found["train"] = names_in_list(base, whole)
    lists = found or {"train": sorted(file.stem for file in folder_of(base, ANNOTATIONS).glob("*.xml"))}
    if not any(lists.values()):
        raise InputError(
            "data.no_items", f"{base} names no image: ImageSets/Main is empty, or Annotations has no XML file"
        )
    for split, names in lists.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InputError(
                "data.duplicate_item", f"{base}/ImageSets/Main/{split}.txt names {twice[0]} twice: remove one"
            )
    return lists


def names_in_list(base: Path, file: Path) -> list[str]:
    """The images that a list names, a line each; the official lists of a class have a flag -1, 0 or 1 behind the name."""
    names, annotations = [], folder_of(base, ANNOTATIONS)
    for line in file.read_text().splitlines():
        name, _, flag = line.strip().rpartition(" ")
        flagged = flag in ("-1", "0", "1") and not (annotations / f"{line.strip()}.xml").is_file()
        names.append(name.strip() if flagged and name else line.strip())
    return [name for name in names if name]


def read_xml(base: Path, stem: str, difficult: bool) -> Objects:
    """Parse ``Annotations/stem.xml``; without the objects that are marked difficult unless they are asked for.

    Raises:
        InputError: If it is missing, no XML, or has an object without a name or with a box that is no four numbers.
    """
    file = folder_of(base, ANNOTATIONS) / f"{stem}.xml"
    if outside(base, file):
        raise InputError(
            "data.path_outside_root", f"ImageSets/Main names {stem!r}, which leads out of {base}: remove it"
        )
    try:
        tree = ElementTree.parse(file).getroot()
        names, boxes = [], []
        for thing in tree.iter("object"):
            if not difficult and thing.findtext("difficult", "0").strip() == "1":
                continue
            box = tuple(float(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            name = thing.findtext("name", "").strip()
            if not name or not all(math.isfinite(side) for side in box):
                raise ValueError("an object without a name, or with a box that is not finite")
            names.append(name)
            boxes.append(box)
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except FileNotFoundError as error:
        raise InputError(
            "data.missing_annotations",
            f"{file} is missing, though ImageSets/Main names {stem}: add it or take the name out of the list",
        ) from error
    except (ElementTree.ParseError, ValueError, OverflowError, OSError) as error:
        raise InputError(
            "data.invalid_annotation",
            f"{file} can't be read as a VOC annotation ({first_line(error)}): repair or remove it",
        ) from error
    return Objects(file, names, boxes, width, height)  # type: ignore[arg-type]
