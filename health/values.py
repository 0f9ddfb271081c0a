"""What the values of masks mean, as far as their frequency tells: which is the background, which the thing looked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.images import read_mask
from health.detect import MASKS
from health.findings import Finding, count
from health.sniff import family
from health.tree import Tree
from structures import InputError

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
    classes = shared(masks)
    found = sum((Counter({v: n for v, n in held.items() if v in classes}) for held in masks.values()), Counter[int]())
    settings, findings = name_values(found, colours)
    return settings, [*findings, *strays(root, masks, classes, colours)]


def shared(masks: dict[Path, Counter[int]]) -> set[int]:
    """The values that several masks hold; all of them where there are few masks, or where that would leave nothing to tell apart."""
    everything = {value for held in masks.values() for value in held}
    sound = [held for path, held in masks.items() if path.suffix.lower() not in LOSSY]
    if len(sound) < MANY:
        return everything
    times = Counter(value for held in sound for value in held)
    classes = {value for value, number in times.items() if number >= max(2, SHARED * len(sound))}
    return classes if len(classes) > 1 else everything


def strays(root: Path, masks: dict[Path, Counter[int]], classes: set[int], colours: bool) -> Iterator[Finding]:
    """Masks with values that hardly another mask has."""
    odd = {path: sorted(set(held) - classes) for path, held in masks.items() if set(held) - classes}
    if odd:
        yield Finding(
            "warning",
            f"{count(len(odd), 'mask holds', 'masks hold')} values that hardly another mask has, which are taken for no classes",
            tuple(
                f"{path.relative_to(root)} ({', '.join(str(word(value, colours)) for value in values[:3])}"
                + (f" and {len(values) - 3} more)" if len(values) > 3 else ")")
                for path, values in odd.items()
            ),
            "save masks without loss and mend stray pixels, or name the values in data.values",
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
