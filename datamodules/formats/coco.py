"""COCO's JSON: boxes for detection, or polygons and run lengths as masks. Source: Lin et al., 2014 (arXiv:1405.0312)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.base.boxes import BoxDataModule, Objects, names_in, stored_frame
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.coco_masks import rasterize
from datamodules.decoding.exif import exif_transpose
from datamodules.decoding.image import read_header
from datamodules.decoding.resize import resize_image
from datamodules.splits.splits import Item, split_name
from foundation.storage import safe_load
from foundation.storage.paths import is_file, outside
from foundation.structures import InputError, Sample

PLACES = ("", "images", "{split}", "images/{split}", "{split}/images", "{stem}", "images/{stem}")
"""Where images lie, relative to the root or to the JSON file; the stem is the JSON's without ``instances_``: train2017."""

PEEK = 1 << 16

FAR = 1e9
"""Pixels; no box reaches as far, and neither NaN nor infinity is less."""


@dataclass(kw_only=True, eq=False, repr=False)
class Coco(BoxDataModule):
    """``annotations/instances_train.json`` and its sisters, or the like in `root` or in its split folders.

    Boxes are x, y, width, height in pixels there. Crowds are no single objects: they are left out of boxes and kept in masks.

    Args:
        target: ``boxes``, or ``mask`` for the class of every pixel; of overlapping objects the smaller one is on top.

    Raises:
        InputError: If a JSON file or an image is missing, or an annotation can't be right.
    """

    target: Literal["boxes", "mask"] = "boxes"

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        names = [name for name in tree if name.endswith(".json") and is_coco(root / name)]
        return (
            FormatMatch(f"COCO's images, annotations and categories in {', '.join(names[:3])}", 0.7) if names else None
        )

    def read(self) -> dict[str, list[Item]]:
        files = find_json(self.root_dir)
        pairs, listed = {}, []
        for split, file in files.items():
            content = read_json(file)
            listed += [str(category["name"]) for category in content["categories"]]
            pairs[split] = self.pairs(split, file, content)
        used = names_in(o for members in pairs.values() for _, o in members)
        names = [name for name in dict.fromkeys(listed) if name in used]
        if len(names) < len(set(listed)):
            self.notes.append(
                f"categories without any object are left out: {', '.join(sorted(set(listed) - used)[:5])}"
            )
        if self.checkpoint_spec:
            names = [
                name for name in self.checkpoint_spec.class_names if name != "background" or self.target == "boxes"
            ]
        return self.make_items(pairs, ["background", *names] if self.target == "mask" and names else names)

    def pairs(self, split: str, file: Path, content: dict[str, Any]) -> list[tuple[Path, Objects]]:
        """Every image of a JSON file with its objects."""
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        by_image: dict[Any, list[dict]] = {image["id"]: [] for image in content["images"]}

        def sort(annotation: dict[str, Any]) -> None:
            if annotation["image_id"] not in by_image:
                text = f"{file}: annotation {annotation.get('id')} is of image {annotation['image_id']}, which is not listed: list the image or remove it"
                raise InputError("data.unlisted_image", text)
            by_image[annotation["image_id"]].append(annotation)

        for annotation in content["annotations"]:
            self.attempt(sort, annotation)
        folders = self.folders(split, file)

        def pair(image: dict[str, Any]) -> tuple[Path, Objects]:
            path = self.locate(file, folders, str(image["file_name"]))
            return path, objects_of(file, image, by_image[image["id"]], categories, crowds=self.target == "mask")

        return [made for image in content["images"] if (made := self.attempt(pair, image))]

    def folders(self, split: str, file: Path) -> list[Path]:
        """The folders in which images may lie."""
        words = {"split": split, "stem": file.stem.removeprefix("instances_")}
        return list(
            dict.fromkeys(
                base / resize_geometry.format(**words)
                for base in (file.parent, self.root_dir)
                for resize_geometry in PLACES
            )
        )

    def locate(self, file: Path, folders: list[Path], name: str) -> Path:
        found = next((folder / name for folder in folders if is_file(folder / name)), None)
        if found is None:
            text = f"{file} names the image {name}, but it is in none of {self.root_dir}, its images and split folders: add it"
            raise InputError("data.missing_file", text)
        if outside(self.root_dir, found):
            text = f"{file} names the image {name}, which leads out of {self.root_dir}: move it into it"
            raise InputError("data.path_outside_root", text)
        return found

    def make_target(self, objects: Objects, path: Path, names: list[str]) -> Any:
        same_size(objects, path)
        if self.target == "boxes":
            return super().make_target(objects, path, names)
        unknown = sorted(set(objects.names) - set(names))
        if unknown:
            raise InputError(
                "data.unknown_class", f"{objects.file}: class {unknown[0]!r} is not one of the training classes {names}"
            )
        return objects

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return super().default_size(shapes) if self.target == "boxes" else None

    def load(self, item: Item) -> Sample:
        if self.target == "boxes":
            return super().load(item)
        image, placement = self.open(Path(item.name))
        header = read_header(Path(item.name))
        objects: Objects = item.target
        frame = (header.height, header.width) if stored_frame(objects, header) else header.upright_size
        labels = [list(self.spec.class_names).index(name) for name in objects.names]
        mask = rasterize(
            list(zip(labels, objects.outlines, strict=True)), *frame, f"{objects.file}: {Path(item.name).name}"
        )
        mask = exif_transpose(mask, header.orientation) if frame != header.upright_size else mask
        return image, resize_image(mask.unsqueeze(0), placement, self.spec.size, nearest=True)[0]


def objects_of(file: Path, image: dict[str, Any], annotations: list[dict], categories: dict, crowds: bool) -> Objects:
    """The objects of one image; its width and height as the JSON states them.

    Raises:
        InputError: If an annotation has an unknown category, or a box that is no four numbers.
    """
    kept = [a for a in annotations if crowds or not a.get("iscrowd")]
    boxes = []
    for annotation in kept:
        if annotation.get("category_id") not in categories:
            text = f"{file}: annotation {annotation.get('id')} of {image['file_name']} has category {annotation.get('category_id')}, the file lists {sorted(categories)}"
            raise InputError("data.unknown_class", text)
        box = annotation.get("bbox")
        if not crowds and not (
            isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and abs(v) < FAR for v in box)
        ):
            text = f"{file}: annotation {annotation.get('id')} of {image['file_name']} has the bbox {str(box)[:80]}: expected x, y, width, height"
            raise InputError("data.invalid_annotation", text)
        x, y, w, h = [0.0] * 4 if crowds else [float(v) for v in box or ()]
        boxes.append((x, y, x + w, y + h))
    names = [categories[a["category_id"]] for a in kept]
    outlines = tuple(a.get("segmentation") for a in kept)
    return Objects(file, names, boxes, side_of(file, image, "width"), side_of(file, image, "height"), outlines)


def side_of(file: Path, image: dict[str, Any], side: str) -> int:
    """Width or height in pixels; 0 where the file does not state it."""
    value = image.get(side) or 0
    if not isinstance(value, int | float) or not 0 <= value < 2**31:
        text = f"{file}: {side} of {image['file_name']} is {str(value)[:40]}: a number of pixels is expected"
        raise InputError("data.invalid_annotation", text)
    return int(value)


def same_size(objects: Objects, path: Path) -> None:
    """Refuse an image that is not of the size that the JSON states; its boxes would lie elsewhere."""
    header = read_header(path)
    stated = (objects.height, objects.width)
    if all(stated) and stated not in (header.upright_size, (header.height, header.width)):
        raise InputError(
            "data.size_mismatch",
            f"{objects.file} states {objects.width}x{objects.height} for {path.name}, the file has {header.upright_size[1]}x{header.upright_size[0]}: "
            "scale the boxes or put the original image back",
        )


def find_json(root: Path) -> dict[str, Path]:
    """{split: JSON file}; a single file without a split's name is ``train``."""
    files = [
        p for where in ("", "annotations", "*") for p in sorted(root.glob(f"{where}/*.json" if where else "*.json"))
    ]
    files = [
        p for p in dict.fromkeys(files) if not p.name.startswith((".", "captions", "person_keypoints", "image_info"))
    ]
    found: dict[str, list[Path]] = {}
    for file in files:
        words = [*file.stem.replace("-", "_").split("_"), file.parent.name]
        split = next((s for word in words if (s := split_name(word.rstrip("0123456789")))), None)
        if split or len(files) == 1:
            found.setdefault(split or "train", []).append(file)
    for split, same in found.items():
        if len(same) > 1:
            text = f"{root} has several JSON files for {split}: {', '.join(str(p.relative_to(root)) for p in same[:4])}: keep one"
            raise InputError("data.ambiguous_annotations", text)
    if "train" not in found and not found:
        text = f"{root} has no COCO file: expected {root}/annotations/instances_train.json or the like"
        raise InputError("data.missing_annotations", text)
    return {split: same[0] for split, same in found.items()}


def has_keys(entry: Any, needed: set[str]) -> bool:
    """Whether an entry of a list is a mapping with these keys, ids being numbers or text."""
    return isinstance(entry, dict) and all(isinstance(entry.get(key), int | str) for key in needed)


def read_json(file: Path) -> dict[str, Any]:
    """The three lists of a COCO file, every id once."""
    content = safe_load.read_json(file)
    for key, needed in (
        ("images", {"id", "file_name"}),
        ("annotations", {"image_id", "category_id"}),
        ("categories", {"id", "name"}),
    ):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(has_keys(e, needed) for e in entries):
            text = f"{file} is no COCO file: {key} must be a list, each with {' and '.join(sorted(needed))}"
            raise InputError("data.invalid_annotation", text)
    for key in ("images", "categories"):
        twice = [i for i, count in Counter(str(e["id"]) for e in content[key]).items() if count > 1]
        if twice:
            raise InputError("data.duplicate_id", f"{file}: {key} has the id {twice[0]} twice: make ids unique")
    return content


def is_coco(path: Path) -> bool:
    """Whether the first and last `PEEK` bytes of a JSON file show COCO's keys; the middle of a large one is not read."""
    try:
        with path.open("rb") as file:
            text = file.read(PEEK)
            file.seek(max(0, path.stat().st_size - PEEK))
            text += file.read()
    except OSError:
        return False
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return sum(key in text for key in keys) >= 2 and any(key in text for key in (b'"bbox"', b'"segmentation"'))
