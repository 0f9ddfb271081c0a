"""COCO's JSON: boxes for detection, or polygons and run lengths as masks. Source: Lin et al., 2014 (arXiv:1405.0312)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datamodules.base.boxes import Annotated, BoxDataModule, ImageAnnotations, names_in
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.coco_masks import rasterize
from datamodules.decoding.exif import Header, exif_transpose
from datamodules.decoding.image import read_header
from datamodules.decoding.resize import resize_image
from datamodules.splits.splits import Item, split_name
from foundation.storage import safe_load
from foundation.storage.paths import is_file, outside
from foundation.structures import InputError, Sample

PLACES = ("", "images", "{split}", "images/{split}", "{split}/images", "{stem}", "images/{stem}")
"""Folders of images, relative to the root or to the JSON file; the stem is that of the JSON file without ``instances_``: train2017."""

PEEK = 1 << 16

MAX_COORDINATE = 1e9
"""Pixels; NaN and infinity are not below it either."""


@dataclass(kw_only=True, eq=False, repr=False)
class Coco(BoxDataModule):
    """``annotations/instances_train.json`` and ``instances_val.json``, or similar names in `root` or in its split folders.

    Boxes are x, y, width, height in pixels in the file. Crowds are left out of boxes and included in masks.

    Args:
        target: ``boxes``, or ``mask`` for the class of every pixel; of overlapping objects the smaller one is on top.

    Raises:
        InputError: If a JSON file or an image is missing, or an annotation is invalid.
    """

    target: Literal["boxes", "mask"] = "boxes"

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        names = [name for name in tree if name.endswith(".json") and is_coco(root / name)]
        reason = f"COCO's images, annotations and categories in {', '.join(names[:3])}"
        return FormatMatch(reason, 0.7) if names else None

    def read(self) -> dict[str, list[Item]]:
        images, listed = {}, []
        for split, file in find_json(self.root_dir).items():
            content = read_annotations(file)
            listed += [str(category["name"]) for category in content["categories"]]
            images[split] = self.annotated(split, file, content)
        used = set(names_in(image for members in images.values() for image in members))
        if unused := sorted(set(listed) - used):
            self.notes.append(f"categories without any object are left out: {', '.join(unused[:5])}")
        names = [name for name in dict.fromkeys(listed) if name in used]
        return self.make_items(images, self.known_classes([*KINDS[self.target].background, *names] if names else []))

    def annotated(self, split: str, file: Path, content: dict[str, Any]) -> list[Annotated]:
        """Returns every image of a JSON file with its objects."""
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        by_image: dict[Any, list[dict]] = {image["id"]: [] for image in content["images"]}

        def assign(annotation: dict[str, Any]) -> None:
            if annotation["image_id"] not in by_image:
                message = f"{file}: annotation {annotation.get('id')} is of image {annotation['image_id']}, which is not listed: list the image or remove it"
                raise InputError("data.unlisted_image", message)
            by_image[annotation["image_id"]].append(annotation)

        for annotation in content["annotations"]:
            self.attempt(assign, annotation)
        words = {"split": split, "stem": file.stem.removeprefix("instances_")}
        folders = dict.fromkeys(
            base / place.format(**words) for base in (file.parent, self.root_dir) for place in PLACES
        )

        def pair(image: dict[str, Any]) -> Annotated:
            path = self.locate(file, list(folders), str(image["file_name"]))
            return path, objects_of(file, image, by_image[image["id"]], categories, KINDS[self.target].crowds)

        return self.attempt_all(pair, content["images"])

    def locate(self, file: Path, folders: list[Path], name: str) -> Path:
        found = next((folder / name for folder in folders if is_file(folder / name)), None)
        if found is None:
            message = f"{file} names the image {name}, but it is in none of {self.root_dir}, its images and split folders: add it"
            raise InputError("data.missing_file", message)
        if outside(self.root_dir, found):
            message = f"{file} names the image {name}, which leads out of {self.root_dir}: move it into it"
            raise InputError("data.path_outside_root", message)
        return found

    def make_target(self, objects: ImageAnnotations, labels: list[int], path: Path) -> Any:
        check_size(objects, path)
        return KINDS[self.target].make_target(self, objects, labels, path)

    def default_size(self, headers: dict[Path, Header]) -> int | None:
        return KINDS[self.target].default_size(self, headers)

    def load(self, item: Item) -> Sample:
        return KINDS[self.target].load(self, item)


class AnnotationKind(NamedTuple):
    """How `Coco` reads one kind of target."""

    crowds: bool
    background: tuple[str, ...]
    make_target: Callable[[Coco, ImageAnnotations, list[int], Path], Any]
    default_size: Callable[[Coco, dict[Path, Header]], int | None]
    load: Callable[[Coco, Item], Sample]


def load_mask(data: Coco, item: Item) -> Sample:
    path = Path(item.name)
    objects: ImageAnnotations = item.target
    image, geometry = data.open(path)
    header = read_header(path)
    annotation_size = objects.annotation_size(header)
    labels = [data.spec.class_names.index(name) for name in objects.names]
    segmentations = list(zip(labels, objects.segmentations, strict=True))
    mask = rasterize(segmentations, *annotation_size, f"{objects.file}: {path.name}")
    mask = exif_transpose(mask, header.orientation) if annotation_size != header.upright_size else mask
    return image, resize_image(mask.unsqueeze(0), geometry, data.spec.size, nearest=True)[0]


KINDS = {
    "boxes": AnnotationKind(False, (), BoxDataModule.make_target, BoxDataModule.default_size, BoxDataModule.load),
    "mask": AnnotationKind(True, ("background",), lambda _, objects, *__: objects, lambda *_: None, load_mask),
}


def objects_of(
    file: Path, image: dict[str, Any], annotations: list[dict], categories: dict, crowds: bool
) -> ImageAnnotations:
    """Returns the objects of one image; with `crowds` for masks, whose boxes do not matter.

    Raises:
        InputError: If an annotation has an unknown category, or its box is not four numbers.
    """
    used = [annotation for annotation in annotations if crowds or not annotation.get("iscrowd")]
    boxes = []
    for annotation in used:
        where = f"{file}: annotation {annotation.get('id')} of {image['file_name']} has"
        if (category := annotation.get("category_id")) not in categories:
            message = f"{where} category {category}, the file lists {sorted(categories)}"
            raise InputError("data.unknown_class", message)
        box = [0, 0, 0, 0] if crowds else annotation.get("bbox")
        numbers = isinstance(box, list) and all(isinstance(v, int | float) and abs(v) < MAX_COORDINATE for v in box)
        if not isinstance(box, list) or not numbers or len(box) != 4:
            message = f"{where} the bbox {str(box)[:80]}: expected x, y, width, height"
            raise InputError("data.invalid_annotation", message)
        x, y, width, height = map(float, box)
        boxes.append((x, y, x + width, y + height))
    names = [categories[annotation["category_id"]] for annotation in used]
    segmentations = tuple(annotation.get("segmentation") for annotation in used)
    return ImageAnnotations(
        file, names, boxes, side_of(file, image, "width"), side_of(file, image, "height"), segmentations
    )


def side_of(file: Path, image: dict[str, Any], side: str) -> int:
    """Returns width or height in pixels; 0 if the file has none."""
    value = image.get(side) or 0
    if not isinstance(value, int | float) or not 0 <= value < 2**31:
        message = f"{file}: {side} of {image['file_name']} is {str(value)[:40]}: a number of pixels is expected"
        raise InputError("data.invalid_annotation", message)
    return int(value)


def check_size(objects: ImageAnnotations, path: Path) -> None:
    """Raises InputError if an image is not of the size that the JSON file gives: its annotations would lie elsewhere."""
    header = read_header(path)
    height, width = header.upright_size
    expected = (objects.height, objects.width)
    if all(expected) and expected not in (header.upright_size, (header.height, header.width)):
        message = f"{objects.file}: {path.name} is {objects.width}x{objects.height}, the file has {width}x{height}: scale the annotations or restore the original image"
        raise InputError("data.size_mismatch", message)


def find_json(root: Path) -> dict[str, Path]:
    """Returns {split: JSON file}; a single file without a split's name is ``train``."""
    others = (".", "captions", "person_keypoints", "image_info")
    globs = ("*.json", "annotations/*.json", "*/*.json")
    files = [file for pattern in globs for file in sorted(root.glob(pattern)) if not file.name.startswith(others)]
    files = list(dict.fromkeys(files))
    found: dict[str, Path] = {}
    for file in files:
        words = [*file.stem.replace("-", "_").split("_"), file.parent.name]
        split = next((split for word in words if (split := split_name(word.rstrip("0123456789")))), None)
        if split is None and len(files) > 1:
            continue
        if (other := found.setdefault(split or "train", file)) != file:
            names = " and ".join(str(path.relative_to(root)) for path in (other, file))
            message = f"{root} has several JSON files for {split}: {names}: remove one"
            raise InputError("data.ambiguous_annotations", message)
    if not found:
        message = f"{root} has no COCO file: expected {root}/annotations/instances_train.json or similar"
        raise InputError("data.missing_annotations", message)
    return found


def has_keys(entry: Any, needed: set[str]) -> bool:
    """Whether an entry of a list is a mapping with these keys; their values are numbers or text."""
    return isinstance(entry, dict) and all(isinstance(entry.get(key), int | str) for key in needed)


def read_annotations(file: Path) -> dict[str, Any]:
    """Returns the content of a COCO file, whose three lists and unique ids are checked."""
    content = safe_load.read_json(file)
    for key, needed in (
        ("images", {"id", "file_name"}),
        ("annotations", {"image_id", "category_id"}),
        ("categories", {"id", "name"}),
    ):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(has_keys(e, needed) for e in entries):
            message = f"{file} is not a COCO file: {key} must be a list, each with {' and '.join(sorted(needed))}"
            raise InputError("data.invalid_annotation", message)
    for key in ("images", "categories"):
        if twice := [i for i, count in Counter(str(e["id"]) for e in content[key]).items() if count > 1]:
            raise InputError("data.duplicate_id", f"{file}: {key} has the id {twice[0]} twice: make ids unique")
    return content


def is_coco(path: Path) -> bool:
    """Whether the first and last `PEEK` bytes of a JSON file have COCO's keys; the middle of a large one is not read."""
    try:
        with path.open("rb") as file:
            text = file.read(PEEK)
            file.seek(max(0, path.stat().st_size - PEEK))
            text += file.read()
    except OSError:
        return False
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return sum(key in text for key in keys) >= 2 and any(key in text for key in (b'"bbox"', b'"segmentation"'))
