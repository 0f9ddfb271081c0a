"""Infers what the values of mask files mean from their frequency: which is the background, which the object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from datamodules.base.recognition import Tree
from datamodules.decoding.image import read_header
from datamodules.decoding.mask import read_mask
from datamodules.formats.mask_folder import ENDING, IMAGES, MASKS
from foundation.structures import IGNORE, InputError
from foundation.threads import map_in_threads
from resmet.data_checks.model.finding import Finding, found, join_first
from resmet.data_checks.scan.files import modality_of, sniff

MAX_VALUES = 60  # of all masks together; more are no classes
MIN_MASKS = 10  # from here on, a value that a single mask has is hardly a class
MIN_SHARE = 0.02  # of the masks that a class occurs in
LOSSY = {".jpg", ".jpeg", ".webp"}
MAX_GAP = 10  # 255 above it, next to class numbers without gaps, is the ignored value by custom

Values = dict[int | str, str]
"""{mask value: class name}, as ``data.values`` takes it."""


def infer_values(root: Path, tree: Tree) -> tuple[Values, list[Finding]]:
    """Returns the class names for the values of a folder's masks, empty if they can't be inferred, and what was found."""
    files = [
        root / name
        for name in tree
        if modality_of(name) == "image" and PurePosixPath(name).parent.name.lower() in MASKS
    ]
    is_color = any(needs_color(file) for file in files[:50])
    counts = count_values(files, is_color)
    lossy = {file for file in files if file.suffix.lower() in LOSSY or sniff(file) == "JPEG"}
    doubtful = lossy | resized_masks(root, tree, files)
    trusted = [own for path, own in counts.items() if path not in doubtful] or list(counts.values())
    classes = common_values(trusted)
    pixels = sum((Counter({v: n for v, n in own.items() if v in classes}) for own in trusted), Counter[int]())
    values, findings = name_values(pixels, is_color)
    stray = {path: sorted(set(own) - classes) for path, own in counts.items() if set(own) - classes}
    return values, [*findings, *stray_values(root, stray, lossy, is_color)]


def needs_color(path: Path) -> bool:
    """Whether a mask is readable as a color image only."""
    for color in (False, True):
        try:
            read_mask(path, color)
        except InputError:
            continue
        return color
    return False


def count_values(files: Sequence[Path], is_color: bool) -> dict[Path, Counter[int]]:
    """Returns {mask file: {value: pixels}}; unreadable files have none (loading the item reports them)."""

    def count(path: Path) -> Counter[int]:
        try:
            mask = read_mask(path, is_color).numpy()
        except InputError:
            return Counter()
        if not is_color and mask.size and mask.min() >= 0 and mask.max() < 1 << 16:  # much faster than sorting
            numbers = np.bincount(mask.ravel())
            return Counter({int(value): int(numbers[value]) for value in numbers.nonzero()[0]})
        found, numbers = np.unique(mask, return_counts=True)
        return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))

    return dict(zip(files, map_in_threads(count, files), strict=True))


def resized_masks(root: Path, tree: Tree, masks: Sequence[Path]) -> set[Path]:
    """Returns the masks whose size differs from that of their image: resizing may have mixed their values."""
    images = {
        (path.parent.parent, path.stem): path
        for path in (root / name for name in tree if modality_of(name) == "image")
        if path.parent.name.lower() in IMAGES
    }

    def is_resized(mask: Path) -> bool:
        keys = ((mask.parent.parent, stem) for stem in (mask.stem, ENDING.sub("", mask.stem)))
        image = next((images[key] for key in keys if key in images), None)
        try:
            return image is not None and sorted(read_header(mask).upright_size) != sorted(
                read_header(image).upright_size
            )
        except InputError:
            return False  # loading the item reports it

    return {mask for mask, resized in zip(masks, map_in_threads(is_resized, masks), strict=True) if resized}


def common_values(masks: Sequence[Counter[int]]) -> set[int]:
    """Returns the values that several masks have; all of them if there are few masks, or if a single value would remain."""
    occurrences = Counter(value for own in masks for value in own)
    if len(masks) < MIN_MASKS:
        return set(occurrences)
    common = {value for value, number in occurrences.items() if number >= max(2, MIN_SHARE * len(masks))}
    return common if len(common) > 1 else set(occurrences)


def stray_values(root: Path, stray: dict[Path, list[int]], lossy: set[Path], is_color: bool) -> Iterator[Finding]:
    """Reports the masks with values, those in `stray`, that hardly any other mask has."""

    def places(paths: Iterable[Path]) -> tuple[str, ...]:
        shown = {path: join_first([format_value(value, is_color) for value in stray[path]], 3) for path in paths}
        return tuple(f"{path.relative_to(root)} ({values})" for path, values in shown.items())

    damaged = places(path for path in stray if path in lossy)
    what = "saved with lossy compression (JPEG), which alters values: those make no classes"
    remedy = "export them again as PNG, from their source"
    yield from found("mask_values.lossy", "error", damaged, "mask", what, remedy)
    others = places(path for path in stray if path not in lossy)
    what = "with values that hardly any other mask has: those make no classes"
    remedy = "resize masks with nearest-neighbor interpolation, repair stray pixels, or name the values in data.values"
    yield from found("mask_values.stray", "warning", others, "mask", what, remedy)


def name_values(pixels: Counter[int], is_color: bool) -> tuple[Values, list[Finding]]:
    """Names the values of masks, given their pixel counts, and reports what should be verified."""
    if len(pixels) < 2 or len(pixels) > MAX_VALUES:
        return {}, list(no_classes(pixels))
    if len(pixels) == 2:
        return name_two(pixels, is_color)
    values: Values = {
        format_value(value, is_color): f"class{index if is_color else value}"
        for index, value in enumerate(sorted(pixels))
    }
    background = 0 if 0 in pixels else max(pixels, key=lambda value: pixels[value])
    values[format_value(background, is_color)] = "background"
    if not is_color and IGNORE in pixels and sorted(pixels)[-2] < len(pixels) + MAX_GAP:
        values[IGNORE] = "ignore"
    message = f"class names of the {len(pixels)} mask values are unknown: {format_values(values)}"
    remedy = "set the real names in data.values of the command below"
    return values, [Finding("mask_values.unnamed", "warning", message, remedy=remedy)]


def name_two(pixels: Counter[int], is_color: bool) -> tuple[Values, list[Finding]]:
    """Names the rarer of two values the object; if that is 0, the polarity should be verified."""
    (background, _), (rarer, number) = pixels.most_common()
    names = {background: "background", rarer: "object"}
    values: Values = {format_value(value, is_color): names[value] for value in sorted(pixels)}
    if rarer != 0:
        return values, []
    swapped: Values = {value: "background" if name == "object" else "object" for value, name in values.items()}
    message = (
        f"mask value {format_value(rarer, is_color)} is the rarer one ({100 * number / pixels.total():.0f} % of the pixels), so it is "
        f"taken as the object and {format_value(background, is_color)} as the background"
    )
    remedy = f"if it is the other way round, set data.values='{{{format_values(swapped)}}}'"
    return values, [Finding("mask_values.polarity", "warning", message, remedy=remedy)]


def no_classes(pixels: Counter[int]) -> Iterator[Finding]:
    """Reports masks of a single value, or of too many."""
    if len(pixels) == 1:
        message = f"all masks have the single value {next(iter(pixels))}: there is nothing to segment"
        yield Finding("mask_values.constant", "error", message)
    elif pixels:
        message = (
            f"the masks have {len(pixels)} different values, too many to be classes: saved as JPEG, resized with interpolation, "
            "or not masks at all?"
        )
        remedy = "export them without loss, resized with nearest-neighbor interpolation"
        yield Finding("mask_values.too_many", "error", message, remedy=remedy)


def format_value(value: int, is_color: bool) -> int | str:
    """Returns a value as ``data.values`` takes it."""
    return "-".join(str(value >> shift & 255) for shift in (16, 8, 0)) if is_color else value


def format_values(values: Values) -> str:
    return ", ".join(f"{value}: {name}" for value, name in values.items())
