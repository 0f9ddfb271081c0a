"""From polygons and run lengths, as COCO writes them, to a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as polygons
from torch import Tensor

from foundation.structures import InputError


def draw(objects: list[tuple[int, Any]], height: int, width: int, where: str) -> Tensor:
    """A mask of labels uint8 (height, width), 0 where there is nothing; smaller objects lie on top.

    Args:
        objects: Labels and outlines: polygons ``[[x1, y1, x2, y2, ...], ...]`` or run lengths ``{"size", "counts"}``.
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.
        where: What a message names.

    Raises:
        InputError: If an outline is neither, or run lengths are not of this size.
    """
    mask = np.zeros(height * width, np.uint8)
    smallest = np.full(height * width, height * width, np.int64)  # pixels of the object on top; one object at a time
    for label, outline in objects:
        pixels = np.flatnonzero(fill(outline, height, width, where))
        shown = pixels[smallest[pixels] >= len(pixels)]
        mask[shown], smallest[shown] = label, len(pixels)
    return torch.from_numpy(mask.reshape(height, width))


def fill(outline: Any, height: int, width: int, where: str) -> np.ndarray:
    """The pixels of one object, bool (height, width)."""
    if isinstance(outline, dict):
        return from_runs(outline, height, width, where)
    if not isinstance(outline, list) or not outline:
        raise InputError(
            f"{where}: an object has no outline (segmentation is {str(outline)[:40]!r}): masks need polygons or run lengths"
        )
    try:
        parts = [np.asarray(part, np.float64).reshape(-1, 2) for part in outline]
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: a polygon is no list of x, y pairs ({error})") from error
    if any(len(part) < 3 or not np.isfinite(part).all() for part in parts):
        raise InputError(f"{where}: a polygon has fewer than 3 points, or points that are not finite")
    inside = [part.clip(0, [width, height]).ravel().tolist() for part in parts]
    union = polygons.merge(
        polygons.frPyObjects(inside, height, width)
    )  # decoded one by one, many parts would fill the memory
    return polygons.decode(union).astype(bool)


def from_runs(outline: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    """Run lengths down the columns, starting with the outside. Decoded here: a wrong length must not write past the end."""
    counts = outline.get("counts")
    runs = unpack(counts) if isinstance(counts, str) else counts
    if (
        outline.get("size") != [height, width]
        or not isinstance(runs, list)
        or not all(isinstance(r, int) and r >= 0 for r in runs)
    ):
        raise InputError(
            f"{where}: run lengths of size {outline.get('size')} for an image of [{height}, {width}]: they must agree"
        )
    if sum(runs) != height * width:
        raise InputError(f"{where}: run lengths cover {sum(runs)} of {height * width} pixels: mend them")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def unpack(text: str) -> list[int] | None:
    """COCO's packed counts: 5 bits a character, low bits first; from the fourth on, the difference to the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs
