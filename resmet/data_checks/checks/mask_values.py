"""What the values of masks mean, as far as their frequency tells: which is the background, which the thing looked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.decoding.image import read_header, read_mask
from datamodules.formats.mask_folder import ENDING
from foundation.structures import InputError
from resmet.data_checks.model.finding import Finding, count, listed
from resmet.data_checks.scan.file_tree import Tree
from resmet.data_checks.scan.file_types import family, sniff
from resmet.data_checks.scan.formats import IMAGES, MASKS

MOST = 60  # more values than that are no classes
MANY = 10  # masks from which a value that one alone holds is hardly a class
SHARED = 0.02  # of the masks that hold a value, at least, where it is a class
LOSSY = {".jpg", ".jpeg", ".webp"}
IGNORE = 255  # beside small numbers, by custom, what neither loss nor score looks at


def settle(root: Path, tree: Tree) -> tuple[dict[str, Any], list[Finding]]:
    """The setting ``values`` of a mask folder, and what a person should know about it."""
    files = [
        root / name for name in tree if family(name) == "picture" and PurePosixPath(name).parent.name.lower() in MASKS
    ]
    colours = any(needs_colours(file) for file in files[:50])
    masks = count_values(files, colours)
    lossy = {file for file in files if file.suffix.lower() in LOSSY or sniff(file) == "JPEG"}
    doubtful = lossy | of_odd_size(root, tree, files)
    trusted = [held for path, held in masks.items() if path not in doubtful]
    classes = shared(trusted or list(masks.values()))
    found = sum(
        (Counter({v: n for v, n in held.items() if v in classes}) for held in trusted or masks.values()), Counter[int]()
    )
    settings, findings = name_values(found, colours)
    odd = {path: sorted(set(held) - classes) for path, held in masks.items() if set(held) - classes}
    return settings, [*findings, *strays(root, odd, lossy, colours)]


def of_odd_size(root: Path, tree: Tree, files: Sequence[Path]) -> set[Path]:
    """The masks of another size than the image that is called alike: whoever resized them may have mixed their values."""
    images: dict[tuple[Path, str], Path] = {}
    for name in tree:
        path = root / name
        if family(name) == "picture" and path.parent.name.lower() in IMAGES:
            images[path.parent.parent, path.stem] = path

    def odd(file: Path) -> bool:
        stems = (file.stem, ENDING.sub("", file.stem))
        image = next((images[file.parent.parent, stem] for stem in stems if (file.parent.parent, stem) in images), None)
        if image is None:
            return False
        try:
            return sorted(read_header(file).shown) != sorted(read_header(image).shown)  # turned is no other size
        except InputError:
            return False  # opening the item says why

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return {file for file, is_odd in zip(files, pool.map(odd, files), strict=True) if is_odd}


def shared(masks: Sequence[Counter[int]]) -> set[int]:
    """The values that several masks hold; all of them where there are few masks, or where that would leave nothing to tell apart."""
    times = Counter(value for held in masks for value in held)
    if len(masks) < MANY:
        return set(times)
    classes = {value for value, number in times.items() if number >= max(2, SHARED * len(masks))}
    return classes if len(classes) > 1 else set(times)


def strays(root: Path, odd: dict[Path, list[int]], lossy: set[Path], colours: bool) -> Iterator[Finding]:
    """Masks with values, those in `odd`, that hardly another mask has."""

    def places(paths: Iterable[Path]) -> tuple[str, ...]:
        return tuple(f"{path.relative_to(root)} ({listed([word(v, colours) for v in odd[path]], 3)})" for path in paths)

    if spoilt := [path for path in odd if path in lossy]:
        yield Finding(
            "error",
            f"{count(len(spoilt), 'mask was', 'masks were')} saved with loss (JPEG), which mixes values: no class is made of them",
            places(spoilt),
            "save them anew as PNG, from what they were made of",
        )
    if others := [path for path in odd if path not in lossy]:
        yield Finding(
            "warning",
            f"{count(len(others), 'mask holds', 'masks hold')} values that hardly another mask has, which are taken for no classes",
            places(others),
            "resize masks to the nearest value and mend stray pixels, or name the values in data.values",
        )


def name_values(found: Counter[int], colours: bool) -> tuple[dict[str, Any], list[Finding]]:
    """The setting ``values`` for the values `found`, with their pixels, and what a person should know about it."""
    if len(found) < 2 or len(found) > MOST:
        return {}, [strange(found)] if found else []
    if len(found) == 2:
        return two(found, colours)
    shown = {
        word(value, colours): f"class{value}" if not colours else f"class{i}" for i, value in enumerate(sorted(found))
    }
    background = 0 if 0 in found else max(found, key=lambda value: found[value])
    shown[word(background, colours)] = "background"
    if not colours and IGNORE in found and sorted(found)[-2] < len(found) + 10:
        shown[IGNORE] = "ignore"
    return {"values": shown}, [
        Finding(
            "warning",
            f"the masks hold {len(found)} values, whose names nobody told: {flat(shown)}",
            todo="put the real names into data.values of the command below",
        )
    ]


def two(found: Counter[int], colours: bool) -> tuple[dict[str, Any], list[Finding]]:
    """The rarer of two values is the object; worth a word where that is 0."""
    (background, _), (thing, _) = found.most_common()
    values = {word(value, colours): "object" if value == thing else "background" for value in sorted(found)}
    if thing != 0:
        return {"values": values}, []
    share = found[thing] / found.total()
    other = {word(value, colours): "background" if value == thing else "object" for value in sorted(found)}
    said = f"mask value {word(thing, colours)} is the rarer one ({100 * share:.0f} % of the pixels), so it is likely the structure of interest and {word(background, colours)} the background"
    return {"values": values}, [
        Finding("warning", said, todo=f"if it is the other way round, say data.values='{{{flat(other)}}}'")
    ]


def strange(found: Counter[int]) -> Finding:
    if len(found) < 2:
        return Finding("error", f"all masks hold the one value {next(iter(found))}: there is nothing to tell apart")
    return Finding(
        "error",
        f"the masks hold {len(found)} different values, too many to be classes: were they saved as JPEG, smoothed when resized, or are they no masks?",
        todo="save them without loss, resized to the nearest value",
    )


def needs_colours(path: Path) -> bool:
    """Whether a mask is a colour picture."""
    try:
        read_mask(path)
    except InputError as error:
        return "colour" in str(error)
    return False


def count_values(files: Sequence[Path], colours: bool) -> dict[Path, Counter[int]]:
    """How many pixels have which value, in every mask that can be read."""

    def values(path: Path) -> Counter[int]:
        try:
            found, numbers = read_mask(path, colours).unique(return_counts=True)
        except InputError:
            return Counter()  # opening the item says why
        return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(files, pool.map(values, files), strict=True))


def word(value: int, colours: bool) -> int | str:
    """A value as ``data.values`` takes it."""
    return "-".join(str(value >> shift & 255) for shift in (16, 8, 0)) if colours else value


def flat(values: dict[Any, str]) -> str:
    return ", ".join(f"{value}: {name}" for value, name in values.items())
