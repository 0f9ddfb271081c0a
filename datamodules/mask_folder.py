"""A folder of images and a folder of masks, paired by file name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from datamodules.augment import Augment
from datamodules.base import Item, Sample
from datamodules.image_data import ImageData
from datamodules.images import apply, find_images, read_header, read_mask, upright
from datamodules.splits import complete, split_folders
from structures import IGNORE, InputError

IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations", "gt")


class MaskFolder(ImageData):
    """``root/train/images/1.png`` with ``root/train/masks/1.png``, or ``images/`` and ``masks/`` in `root` itself.

    Args:
        root: The folder of the data.
        values: {mask value: class name}; the name ``background`` is the class of no interest and takes label 0, ``ignore``
            leaves pixels out of loss and score. This says the polarity: ``{0: membrane, 255: background}``. None takes masks
            of 0 and another value only, 0 as the background.
        size: Side in pixels that images and masks are stretched to; None leaves them as they are.
        channels: 1 (grey) or 3 (RGB); None takes 1 where all images are grey.
        splits: Shares taken as ``val`` and ``test`` where there is no such folder.
        batch_size: Images a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Keep decoded images in memory where they fit.
        seed: Of splits, shuffle and changes.
        augment: Changes to training images and their masks.

    Raises:
        InputError: If an image has no mask or a mask no image, sizes differ, or a mask holds a value with no class.
    """

    resize = "stretch"
    kind = "mask"

    def __init__(
        self,
        root: str,
        values: Mapping[int, str] | None = None,
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
        self.values = None if values is None else {int(value): str(name) for value, name in values.items()}

    def read(self) -> dict[str, list[Item]]:
        folders = split_folders(self.root) or {"train": self.root}
        pairs = {split: pair(folder) for split, folder in folders.items()}
        everything = [couple for members in pairs.values() for couple in members]
        if not everything:
            raise InputError(
                f"{self.root} holds no images: expected {self.root}/train/images and {self.root}/train/masks"
            )
        values = self.values or self.guess([mask for _, mask in everything])
        names = ordered(values.values())
        if len(names) < 2:
            raise InputError(
                f"data.values={values} names one class only: name at least 2, one of them may be background"
            )
        if self.given and list(self.given.class_names) != names:
            raise InputError(
                f"data.values names {names}, the checkpoint knows {list(self.given.class_names)}: name them alike"
            )
        self.labels = {value: names.index(name) if name != "ignore" else IGNORE for value, name in values.items()}
        self.spec = self.make_spec(names, self.look([image for image, _ in everything]))
        items = {split: [Item(str(image), mask) for image, mask in members] for split, members in pairs.items()}
        strata = {split: [0] * len(members) for split, members in items.items()}
        return complete(items, strata, self.shares["val"], self.shares["test"], self.seed)

    def guess(self, masks: list[Path]) -> dict[int, str]:
        """Background and object, where the masks hold 0 and one other value; anything else must be said."""
        found: set[int] = set()
        for mask in masks:
            found |= set(read_mask(mask).unique().tolist())
        if len(found) == 2 and 0 in found:
            other = max(found)
            self.notes.append(
                f"mask value 0 is taken as background and {other} as object; say data.values='{{0: object, {other}: background}}' if it is the other way round"
            )
            return {0: "background", other: "object"}
        example = ", ".join(
            f"{value}: {'background' if value == 0 else f'class{i}'}" for i, value in enumerate(sorted(found)[:6])
        )
        raise InputError(
            f"{self.root}: the masks hold the values {sorted(found)[:12]}: say what they mean, data.values='{{{example}}}'"
        )

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return None

    def load(self, item: Item) -> Sample:
        path = Path(item.name)
        image, placement = self.open(path)
        mask = self.mask(path, item.target, placement.height, placement.width)
        return image, apply(mask.unsqueeze(0), placement, self.spec.size, nearest=True)[0]

    def mask(self, path: Path, file: Path, height: int, width: int) -> Tensor:
        """Labels uint8 (height, width), upright like its image."""
        raw = read_mask(file)
        if raw.shape != (height, width):
            header = read_header(path)
            if header.orientation == 1 or tuple(raw.shape) != (header.height, header.width):
                raise InputError(
                    f"{file} has {raw.shape[1]}x{raw.shape[0]} pixels, its image {path.name} has {width}x{height}: make them the same size"
                )
            raw = upright(raw, header.orientation)  # drawn on the picture as stored
        labels = torch.full(raw.shape, -1, dtype=torch.int16)
        for value, label in self.labels.items():
            labels[raw == value] = label
        if (labels < 0).any():
            wrong = sorted(raw[labels < 0].unique().tolist())[:6]
            raise InputError(
                f"{file} holds the values {wrong}, which have no class; data.values names {sorted(self.labels)}: add them there"
            )
        return labels.to(torch.uint8)


def ordered(names: object) -> list[str]:
    """Distinct class names as they come, without ``ignore``, ``background`` first."""
    distinct = [name for name in dict.fromkeys(names) if name != "ignore"]  # type: ignore[call-overload]
    return sorted(distinct, key=lambda name: name != "background")


def pair(folder: Path) -> list[tuple[Path, Path]]:
    """Images and their masks, by the name without suffix."""

    def child(names: tuple[str, ...]) -> dict[str, Path]:
        found = next((folder / name for name in names if (folder / name).is_dir()), None)
        if found is None:
            raise InputError(
                f"{folder} has no folder named {' or '.join(names[:2])}: expected {folder}/images and {folder}/masks"
            )
        return {str(path.relative_to(found).with_suffix("")): path for path in find_images(found)}

    images, masks = child(IMAGES), child(MASKS)
    alone = sorted(set(images) - set(masks))
    if alone:
        raise InputError(
            f"{len(alone)} images in {folder} have no mask of the same name, such as {images[alone[0]]}: add or remove them"
        )
    if spare := sorted(set(masks) - set(images)):
        raise InputError(
            f"{len(spare)} masks in {folder} have no image of the same name, such as {masks[spare[0]]}: add or remove them"
        )
    return [(images[name], masks[name]) for name in sorted(images)]
