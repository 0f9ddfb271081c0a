"""A folder of images and a folder of masks, paired by file name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from datamodules.base.images import ImageDataModule
from datamodules.base.recognition import FormatMatch, Tree, paths_in
from datamodules.decoding.exif import Header, exif_transpose
from datamodules.decoding.image import SUFFIXES, read_header
from datamodules.decoding.mask import read_mask
from datamodules.decoding.resize import resize_image
from datamodules.splits.splits import Item, split_folders
from foundation.storage.paths import find_files
from foundation.structures import IGNORE, InputError, Sample, pluralize
from foundation.threads import map_in_threads

IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "gt")
ENDING = re.compile(r"[_-](mask|masks|label|labels|gt|seg)$")

Pair = tuple[Path, tuple[Path, ...]]
"""An image and its masks."""


@dataclass(kw_only=True, eq=False, repr=False)
class MaskFolder(ImageDataModule):
    """``root/train/images/1.png`` with ``root/train/masks/1.png``, or ``images/`` and ``masks/`` in `root` itself.

    A mask has the name of its image, or that and ``_mask`` (``-mask``, ``_label``, ``_gt``, ``_seg``). With one mask per object,
    every image has a folder of its own: ``root/train/ID/images/1.png`` and ``root/train/ID/masks/*.png``; a pixel gets the
    highest value that one of them has there.

    Args:
        values: {mask value: class name}. The class ``background`` gets label 0, and ``ignore`` excludes pixels from loss and metrics. This
            sets the polarity: ``{0: membrane, 255: background}``. A value is a number (gray or palette index) or a color, ``255-0-0`` or
            ``"#ff0000"``. None takes masks of 0 and one other value only, 0 as the background.

    Raises:
        InputError: If an image has no mask or a mask no image, sizes differ, or a mask has a value without a class.
    """

    resize = "stretch"
    target = "mask"

    values: Mapping[int | str, str] | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.values or {}
        self.names_by_value = {pixel_value(value): str(name) for value, name in given.items()}
        colors = {is_color(value) for value in given}
        if len(colors) > 1:
            message = f"data.values mixes numbers and colors: {list(given)}; a mask has one or the other"
            raise InputError("data.mixed_values", message)
        self.colors = colors == {True}

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        num_images = Counter(path.parent for path in paths_in(tree, SUFFIXES))
        pairs = [pair for base in {folder.parent for folder in num_images} if (pair := find_pair(base, num_images))]
        if not pairs:
            return None
        images, masks = (sum(num_images[pair[i]] for pair in pairs) for i in (0, 1))
        if len(pairs) > 3:
            reason = f"{pluralize(len(pairs), 'folder')} with an image each and {pluralize(masks, 'mask')}, one mask per object"
        else:
            shown = ", ".join(f"{image} and {mask}" for image, mask in sorted(pairs, key=str))
            reason = f"{pluralize(images, 'image')} and {pluralize(masks, 'mask')} in {shown}"
        return FormatMatch(reason, 0.8)

    def read(self) -> dict[str, list[Item]]:
        folders = split_folders(self.root_dir) or {"train": self.root_dir}
        pairs = {split: self.pairs(folder) for split, folder in folders.items()}
        images = [image for members in pairs.values() for image, _ in members]
        if not images:
            message = (
                f"{self.root_dir} has no images: expected {self.root_dir}/train/images and {self.root_dir}/train/masks"
            )
            raise InputError("data.no_items", message)
        masks = [mask for members in pairs.values() for _, of_image in members for mask in of_image]
        values = self.names_by_value or self.infer_values(masks)
        distinct = dict.fromkeys(name for name in values.values() if name != "ignore")
        names = sorted(distinct, key=lambda name: name != "background")
        if len(names) < 2:
            message = f"data.values={values} names one class only: name at least 2, one of them may be background"
            raise InputError("data.one_class", message)
        if self.checkpoint_spec and list(self.checkpoint_spec.class_names) != names:
            message = f"data.values names {names}, the checkpoint has {list(self.checkpoint_spec.class_names)}: use the same names"
            raise InputError("data.other_classes", message)
        self.labels = {value: names.index(name) if name != "ignore" else IGNORE for value, name in values.items()}
        self.spec = self.make_spec(names, images)
        found = {split: [Item(str(image), masks) for image, masks in members] for split, members in pairs.items()}
        return self.complete_splits(found)

    def pairs(self, folder: Path) -> list[Pair]:
        """Returns images with their masks: that of the same name, or all in the image's own folder."""
        folders = [child for child in folder.iterdir() if child.is_dir() and child_folder(child, IMAGES)]
        if folders and not child_folder(folder, IMAGES):
            return self.attempt_all(one_image, sorted(folders))
        images, masks = files_by_name(folder, IMAGES), files_by_name(folder, MASKS)
        masks = {name if name in images else ENDING.sub("", name): path for name, path in masks.items()}

        def pair_of(name: str) -> Pair:
            if name not in masks:
                message = f"{images[name]} has no mask of the same name: add one or remove the image"
                raise InputError("data.missing_mask", message)
            if name not in images:
                message = f"{masks[name]} has no image of the same name: add it or remove the mask"
                raise InputError("data.missing_image", message)
            return images[name], (masks[name],)

        return self.attempt_all(pair_of, sorted(images | masks))

    def infer_values(self, masks: list[Path]) -> dict[int, str]:
        """Returns background and object if the masks have 0 and one other value; other values must be configured."""

        def values(mask: Path) -> set[int]:
            return set(read_mask(mask).unique().tolist())

        by_mask = map_in_threads(lambda mask: self.attempt(values, mask), masks)
        found = set().union(*(own for own in by_mask if own))
        if len(found) == 2 and 0 in found:
            other = max(found)
            self.notes.append(
                f"mask value 0 is taken as background and {other} as object; set data.values='{{0: object, {other}: background}}' if it is the other way round"
            )
            return {0: "background", other: "object"}
        self.raise_skipped()
        if len(found) < 2:
            message = f"{self.root_dir}: all masks have the value {', '.join(map(str, found))} only, so there is no object to learn: check that they are the right files"
            raise InputError("data.no_objects", message)
        example = ", ".join(f"{v}: {f'class{i}' if v else 'background'}" for i, v in enumerate(sorted(found)[:6]))
        message = f"{self.root_dir}: the masks have the values {sorted(found)[:12]}{jpeg_hint(masks)}: name their classes, data.values='{{{example}}}'"
        raise InputError("data.unnamed_mask_values", message)

    def default_size(self, headers: dict[Path, Header]) -> int | None:
        return None

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name), *item.target)

    def settings(self) -> list[Any]:
        return [*super().settings(), self.labels, self.colors]

    def load(self, item: Item) -> Sample:
        image, geometry = self.open(Path(item.name))
        mask = self.mask(Path(item.name), item.target, (geometry.height, geometry.width))
        return image, resize_image(mask.unsqueeze(0), geometry, self.spec.size, nearest=True)[0]

    def mask(self, image: Path, files: Sequence[Path], size: tuple[int, int]) -> Tensor:
        """Returns the labels of an image, uint8 (H, W), upright."""
        raw = torch.stack([self.read_values(file, image, size) for file in files]).amax(0)
        labels = torch.full(raw.shape, -1, dtype=torch.int16)
        for value, label in self.labels.items():
            labels[raw == value] = label
        if (labels < 0).any():
            unknown = [self.format_value(value) for value in sorted(raw[labels < 0].unique().tolist())[:6]]
            known = [self.format_value(value) for value in sorted(self.labels)]
            message = f"{files[0]} has the values {unknown}, which have no class; data.values names {known}{jpeg_hint(files)}: add them there"
            raise InputError("data.unknown_mask_value", message)
        return labels.to(torch.uint8)

    def read_values(self, file: Path, image: Path, size: tuple[int, int]) -> Tensor:
        """Returns the values of a mask file, int32 (H, W), upright like its image, which has `size`."""
        raw = read_mask(file, self.colors)
        if raw.shape == size:
            return raw
        header = read_header(image)
        if tuple(raw.shape) != (header.height, header.width):
            message = f"{file} has {raw.shape[1]}x{raw.shape[0]} pixels, its image {image.name} has {size[1]}x{size[0]}: make them the same size"
            raise InputError("data.size_mismatch", message)
        return exif_transpose(raw, header.orientation)  # drawn on the image as stored

    def format_value(self, value: int) -> int | str:
        """Returns a mask value as it is written in `values`."""
        return "-".join(str(value >> shift & 255) for shift in (16, 8, 0)) if self.colors else value


def jpeg_hint(files: Sequence[Path]) -> str:
    """Returns why masks saved as JPEG have other values, if some are."""
    if not any(file.suffix.lower() in (".jpg", ".jpeg") for file in files):
        return ""
    return " (JPEG compression alters mask values: export the masks as PNG)"


def is_color(value: int | str) -> bool:
    return isinstance(value, str) and (value.startswith("#") or "-" in value.lstrip("-"))


def pixel_value(value: int | str) -> int:
    """Returns the number that `read_mask` gives for a value of `MaskFolder.values`."""
    try:
        if not is_color(value):
            return int(value)
        text = str(value)
        parts = [int(text[i : i + 2], 16) for i in (1, 3, 5)] if text[0] == "#" else [int(p) for p in text.split("-")]
        red, green, blue = parts
        if not all(0 <= part <= 255 for part in parts):
            raise ValueError(text)
        return red << 16 | green << 8 | blue
    except ValueError as error:
        message = f"data.values: {value!r} is neither a number nor a color such as 255-0-0 or '#ff0000'"
        raise InputError("data.invalid_mask_value", message) from error


def one_image(folder: Path) -> Pair:
    """Returns the only image of a folder, with a mask per object."""
    images, masks = files_by_name(folder, IMAGES), files_by_name(folder, MASKS)
    if len(images) != 1 or not masks:
        message = f"{folder} has {len(images)} images and {len(masks)} masks: expected one image and a mask per object"
        raise InputError("data.count_mismatch", message)
    return next(iter(images.values())), tuple(masks[name] for name in sorted(masks))


def child_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def files_by_name(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Returns {name without suffix: file} in the folder that has one of `names`."""
    found = child_folder(folder, names)
    if found is None:
        message = f"{folder} has no folder named {' or '.join(names[:2])}: expected {folder}/images and {folder}/masks"
        raise InputError("data.missing_folder", message)
    return {str(path.relative_to(found).with_suffix("")): path for path in find_files(found, SUFFIXES)}


def find_pair(base: PurePosixPath, folders: Iterable[PurePosixPath]) -> tuple[PurePosixPath, PurePosixPath] | None:
    """Returns a folder of images and a folder of masks side by side in `base`."""
    names = {path.name.lower(): path for path in folders if path.parent == base}
    image, mask = (next((names[name] for name in known if name in names), None) for known in (IMAGES, MASKS))
    return (image, mask) if image and mask else None
