"""A folder of images and a folder of masks, paired by file name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from datamodules.base.images import ImageDataModule
from datamodules.base.recognition import FormatMatch, Tree, paths_in
from datamodules.decoding.exif import exif_transpose
from datamodules.decoding.image import SUFFIXES, read_header
from datamodules.decoding.mask import read_mask
from datamodules.decoding.resize import resize_image
from datamodules.splits.splits import Item, split_folders
from foundation.storage.paths import find_files
from foundation.structures import IGNORE, InputError, Sample, pluralize

IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "gt")
ENDING = re.compile(r"[_-](mask|masks|label|labels|gt|seg)$")


@dataclass(kw_only=True, eq=False, repr=False)
class MaskFolder(ImageDataModule):
    """``root/train/images/1.png`` with ``root/train/masks/1.png``, or ``images/`` and ``masks/`` in `root` itself.

    A mask is called like its image, or that and ``_mask`` (``-mask``, ``_label``, ``_gt``, ``_seg``). With one mask file an
    object, every image has a folder of its own: ``root/train/ID/images/1.png`` and ``root/train/ID/masks/*.png``; a pixel is of
    the highest value that one of them has there.

    Args:
        values: {mask value: class name}. The name ``background`` is the class of no interest and gets label 0, ``ignore`` excludes pixels
            from loss and metrics. This sets the polarity: ``{0: membrane, 255: background}``. A value is a number (gray or palette
            index) or a color, ``255-0-0`` or ``"#ff0000"``. None takes masks of 0 and one other value only, 0 as the background.

    Raises:
        InputError: If an image has no mask or a mask no image, sizes differ, or a mask holds a value with no class.
    """

    resize = "stretch"
    target = "mask"

    values: Mapping[int | str, str] | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.values or {}
        self.names_by_pixel = {pixel(value): str(name) for value, name in given.items()}
        self.colors = any(is_colour(value) for value in given)
        if self.colors and not all(is_colour(value) for value in given):
            raise InputError(
                "data.mixed_values", f"data.values mixes numbers and colors: {list(given)}; a mask has one or the other"
            )

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
        everything = [couple for members in pairs.values() for couple in members]
        if not everything:
            text = f"{self.root_dir} holds no images: expected {self.root_dir}/train/images and {self.root_dir}/train/masks"
            raise InputError("data.no_items", text)
        values = self.names_by_pixel or self.guess([mask for _, masks in everything for mask in masks])
        names = ordered(values.values())
        if len(names) < 2:
            text = f"data.values={values} names one class only: name at least 2, one of them may be background"
            raise InputError("data.one_class", text)
        if self.checkpoint_spec and list(self.checkpoint_spec.class_names) != names:
            text = f"data.values names {names}, the checkpoint knows {list(self.checkpoint_spec.class_names)}: name them alike"
            raise InputError("data.other_classes", text)
        self.labels = {value: names.index(name) if name != "ignore" else IGNORE for value, name in values.items()}
        self.spec = self.make_spec(names, self.read_headers([image for image, _ in everything]))
        found = {split: [Item(str(image), masks) for image, masks in members] for split, members in pairs.items()}
        return self.complete_splits(found)

    def pairs(self, folder: Path) -> list[tuple[Path, tuple[Path, ...]]]:
        """Images and their masks: one of the same name, or all in the folder that an image has for itself."""
        own = sorted(child for child in folder.iterdir() if child.is_dir() and child_folder(child, IMAGES))
        if own and not child_folder(folder, IMAGES):
            return [made for child in own if (made := self.attempt(alone, child))]
        images, masks = files_by_name(folder, IMAGES), files_by_name(folder, MASKS)
        masks = {name if name in images else ENDING.sub("", name): path for name, path in masks.items()}

        def couple(name: str) -> tuple[Path, tuple[Path, ...]]:
            if name not in masks:
                raise InputError(
                    "data.missing_mask", f"{images[name]} has no mask of the same name: add one or remove the image"
                )
            if name not in images:
                raise InputError(
                    "data.missing_image", f"{masks[name]} has no image of the same name: add it or remove the mask"
                )
            return images[name], (masks[name],)

        return [made for name in sorted(images | masks) if (made := self.attempt(couple, name))]

    def guess(self, masks: list[Path]) -> dict[int, str]:
        """Background and object, where the masks hold 0 and one other value; anything else must be said."""

        def values(mask: Path) -> set[int]:
            return set(read_mask(mask).unique().tolist())

        with ThreadPoolExecutor() as pool:
            found = set().union(*(part for part in pool.map(lambda mask: self.attempt(values, mask), masks) if part))
        if len(found) == 2 and 0 in found:
            other = max(found)
            self.notes.append(
                f"mask value 0 is taken as background and {other} as object; say data.values='{{0: object, {other}: background}}' if it is the other way round"
            )
            return {0: "background", other: "object"}
        self.raise_skipped()
        example = ", ".join(f"{v}: {f'class{i}' if v else 'background'}" for i, v in enumerate(sorted(found)[:6]))
        if len(found) < 2:
            raise InputError(
                "data.no_objects",
                f"{self.root_dir}: all masks hold the value {', '.join(map(str, found))} alone, so there is no object to learn: "
                "look whether these are the right files, and drawn at all",
            )
        text = f"{self.root_dir}: the masks hold the values {sorted(found)[:12]}{lossy(masks)}: say what they mean, data.values='{{{example}}}'"
        raise InputError("data.unnamed_mask_values", text)

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return None

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name), *item.target)

    def settings(self) -> list[Any]:
        return [*super().settings(), self.labels, self.colors]

    def load(self, item: Item) -> Sample:
        image, placement = self.open(Path(item.name))
        mask = self.mask(Path(item.name), item.target, placement.height, placement.width)
        return image, resize_image(mask.unsqueeze(0), placement, self.spec.size, nearest=True)[0]

    def mask(self, path: Path, files: tuple[Path, ...], height: int, width: int) -> Tensor:
        """Labels uint8 (height, width), upright like its image."""
        raw = torch.stack([self.raw(path, file, height, width) for file in files]).amax(0)
        labels = torch.full(raw.shape, -1, dtype=torch.int16)
        for value, label in self.labels.items():
            labels[raw == value] = label
        if (labels < 0).any():
            wrong = [self.word(value) for value in sorted(raw[labels < 0].unique().tolist())[:6]]
            known = [self.word(value) for value in sorted(self.labels)]
            text = f"{files[0]} holds the values {wrong}, which have no class; data.values names {known}{lossy(files)}: add them there"
            raise InputError("data.unknown_mask_value", text)
        return labels.to(torch.uint8)

    def raw(self, path: Path, file: Path, height: int, width: int) -> Tensor:
        """A mask file's values, int32 (height, width), upright like its image."""
        raw = read_mask(file, self.colors)
        if raw.shape == (height, width):
            return raw
        header = read_header(path)
        if header.orientation == 1 or tuple(raw.shape) != (header.height, header.width):
            text = f"{file} has {raw.shape[1]}x{raw.shape[0]} pixels, its image {path.name} has {width}x{height}: make them the same size"
            raise InputError("data.size_mismatch", text)
        return exif_transpose(raw, header.orientation)  # drawn on the picture as stored

    def word(self, value: int) -> int | str:
        """A mask's value as a person writes it."""
        return "-".join(str(value >> shift & 255) for shift in (16, 8, 0)) if self.colors else value


def lossy(files: Sequence[Path]) -> str:
    """What to know of the values where masks were saved as JPEG."""
    if not any(file.suffix.lower() in (".jpg", ".jpeg") for file in files):
        return ""
    return " (JPEG is why: it changes values, so masks are saved without loss, as PNG; save them anew)"


def is_colour(value: int | str) -> bool:
    return isinstance(value, str) and (value.startswith("#") or "-" in value.lstrip("-"))


def pixel(value: int | str) -> int:
    """A value of `data.values` as the number that a mask has there."""
    try:
        if not is_colour(value):
            return int(value)
        text = str(value)
        red, green, blue = parts = (
            [int(text[i : i + 2], 16) for i in (1, 3, 5)] if text[0] == "#" else [int(p) for p in text.split("-")]
        )
        if not all(0 <= part <= 255 for part in parts):
            raise ValueError(text)
        return red << 16 | green << 8 | blue
    except ValueError as error:
        text = f"data.values: {value!r} is neither a number nor a colour such as 255-0-0 or '#ff0000'"
        raise InputError("data.invalid_mask_value", text) from error


def ordered(names: object) -> list[str]:
    """Distinct class names as they come, without ``ignore``, ``background`` first."""
    distinct = [name for name in dict.fromkeys(names) if name != "ignore"]  # type: ignore[call-overload]
    return sorted(distinct, key=lambda name: name != "background")


def alone(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """The one image of a folder, with a mask an object."""
    images, masks = files_by_name(folder, IMAGES), files_by_name(folder, MASKS)
    if len(images) != 1 or not masks:
        text = f"{folder} has {len(images)} images and {len(masks)} masks: expected one image and a mask an object"
        raise InputError("data.count_mismatch", text)
    return next(iter(images.values())), tuple(masks[name] for name in sorted(masks))


def child_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def files_by_name(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """{name without suffix: file} in the folder that has one of `names`."""
    found = child_folder(folder, names)
    if found is None:
        text = f"{folder} has no folder named {' or '.join(names[:2])}: expected {folder}/images and {folder}/masks"
        raise InputError("data.missing_folder", text)
    return {str(path.relative_to(found).with_suffix("")): path for path in find_files(found, SUFFIXES)}


def find_pair(base: PurePosixPath, folders: Iterable[PurePosixPath]) -> tuple[PurePosixPath, PurePosixPath] | None:
    """Returns a folder of images and a folder of masks side by side in `base`."""
    names = {path.name.lower(): path for path in folders if path.parent == base}
    image, mask = (next((names[name] for name in known if name in names), None) for known in (IMAGES, MASKS))
    return (image, mask) if image and mask else None
