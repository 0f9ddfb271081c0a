"""Pascal VOC: an XML file per image, the splits in ImageSets/Main. Source: Everingham et al., 2010 (IJCV 88)."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from datamodules.base.boxes import Annotated, BoxDataModule, ImageAnnotations, names_in
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

    Boxes are x1, y1, x2, y2 in pixels, as written: today's tools write edges counted from 0, the sets of 2007 to 2012 pixels counted
    from 1, which differs by half a pixel.

    Args:
        difficult: Whether to use the objects that are marked as difficult; VOC's own evaluation ignores them.

    Raises:
        InputError: If a folder, an image or an XML file is missing or unreadable, or a box or a class is invalid.
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
        for (base, name), number in annotated.most_common(1):
            for folder in IMAGES:
                if count := images[base / folder]:
                    files = f"{pluralize(number, 'XML file')}, {base / folder} {pluralize(count, 'image')}"
                    return FormatMatch(f"{base / name} has {files}", 0.9)
        return None

    def read(self) -> dict[str, list[Item]]:
        base = find_base(self.root_dir)
        folder = folder_of(base, IMAGES)
        files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}

        def pair(stem: str) -> Annotated:
            objects = read_xml(base, stem, self.difficult)
            if stem not in files:
                message = f"{objects.file} has no image in {folder}: add the image or remove the XML file"
                raise InputError("data.missing_image", message)
            return files[stem], objects

        images = {split: self.attempt_all(pair, stems) for split, stems in read_lists(base).items()}
        return self.make_items(images, self.known_classes(names_in(images.get("train", []))))


def find_base(root: Path) -> Path:
    """Returns the folder that has annotations and images."""
    for base in [root, *sorted(child for child in root.iterdir() if child.is_dir())]:
        if folder_of(base, ANNOTATIONS).is_dir() and folder_of(base, IMAGES).is_dir():
            return base
    message = f"{root} is not a Pascal VOC folder: neither it nor a folder in it has Annotations and JPEGImages (or annotations and images)"
    raise InputError("data.missing_folder", message)


def folder_of(base: Path, names: tuple[str, ...]) -> Path:
    """Returns the first folder of `base` that has one of `names`."""
    return next((base / name for name in names if (base / name).is_dir()), base / names[0])


def read_lists(base: Path) -> dict[str, list[str]]:
    """Returns {split: image names} from ImageSets/Main; all images as ``train`` if there are no lists."""
    files = sorted((base / "ImageSets" / "Main").glob("*.txt"))
    found = {split: names_in_list(base, file) for file in files if (split := split_name(file.stem))}
    whole = base / "ImageSets" / "Main" / "trainval.txt"
    if "train" not in found and whole.is_file():
        found["train"] = names_in_list(base, whole)
    lists = found or {"train": sorted(file.stem for file in folder_of(base, ANNOTATIONS).glob("*.xml"))}
    if not any(lists.values()):
        message = f"{base} names no image: ImageSets/Main is empty, or Annotations has no XML file"
        raise InputError("data.no_items", message)
    for split, names in lists.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            message = f"{base}/ImageSets/Main/{split}.txt names {twice[0]} twice: remove one"
            raise InputError("data.duplicate_item", message)
    return lists


def names_in_list(base: Path, file: Path) -> list[str]:
    """Returns the image names of a list, one per line; the official lists of a class have a flag -1, 0 or 1 after the name."""
    names, annotations = [], folder_of(base, ANNOTATIONS)
    for line in file.read_text().splitlines():
        name, _, flag = line.strip().rpartition(" ")
        flagged = flag in ("-1", "0", "1") and not (annotations / f"{line.strip()}.xml").is_file()
        names.append(name.strip() if flagged and name else line.strip())
    return [name for name in names if name]


def read_xml(base: Path, stem: str, difficult: bool) -> ImageAnnotations:
    """Parses ``Annotations/stem.xml``; objects that are marked as difficult are left out unless `difficult` is True.

    Raises:
        InputError: If it is missing or not valid XML, or an object has no name or a box that is not four numbers.
    """
    file = folder_of(base, ANNOTATIONS) / f"{stem}.xml"
    if outside(base, file):
        message = f"ImageSets/Main names {stem!r}, which leads out of {base}: remove it"
        raise InputError("data.path_outside_root", message)
    try:
        tree = ElementTree.parse(file).getroot()
        names, boxes = [], []
        for node in tree.iter("object"):
            if not difficult and node.findtext("difficult", "0").strip() == "1":
                continue
            x1, y1, x2, y2 = (float(node.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            name = node.findtext("name", "").strip()
            if not name or not all(map(math.isfinite, (x1, y1, x2, y2))):
                raise ValueError("an object without a name, or with a box that is not finite")
            names.append(name)
            boxes.append((x1, y1, x2, y2))
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except FileNotFoundError as error:
        message = f"{file} is missing, though ImageSets/Main names {stem}: add it or remove the name from the list"
        raise InputError("data.missing_annotations", message) from error
    except (ElementTree.ParseError, ValueError, OverflowError, OSError) as error:
        message = f"{file} can't be read as a VOC annotation ({first_line(error)}): repair or remove it"
        raise InputError("data.invalid_annotation", message) from error
    return ImageAnnotations(file, names, boxes, width, height)
