"""COCO's polygons and run-length encodings (RLE) -> masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask
from torch import Tensor

from foundation.structures import InputError


def rasterize(objects: list[tuple[int, Any]], height: int, width: int, where: str) -> Tensor:
    """Returns a mask of labels, uint8 (height, width), 0 where there is no object; smaller objects lie on top.

    Args:
        objects: Labels and segmentations: polygons ``[[x1, y1, x2, y2, ...], ...]`` or RLE ``{"size", "counts"}``.

    Raises:
        InputError: Naming `where`, if a segmentation is neither, or an RLE is of another size.
    """
    mask = np.zeros(height * width, np.uint8)
    smallest = np.full(height * width, height * width, np.int64)  # area of the object on top; one object at a time
    for label, segmentation in objects:
        pixels = np.flatnonzero(object_mask(segmentation, height, width, where))
        visible = pixels[smallest[pixels] >= len(pixels)]
        mask[visible], smallest[visible] = label, len(pixels)
    return torch.from_numpy(mask.reshape(height, width))


def object_mask(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """Returns the pixels of one object, bool (height, width)."""
    if isinstance(segmentation, dict):
        return decode_rle(segmentation, height, width, where)
    if not isinstance(segmentation, list) or not segmentation:
        text = f"{where}: an object has no polygons or RLE, which masks need, but {str(segmentation)[:40]!r}"
        raise InputError("data.missing_segmentation", text)
    try:
        polygons = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
    except (ValueError, TypeError) as error:
        raise InputError("data.invalid_polygon", f"{where}: a polygon is not a list of x, y pairs ({error})") from error
    if any(len(polygon) < 3 or not np.isfinite(polygon).all() for polygon in polygons):
        text = f"{where}: a polygon has fewer than 3 points, or NaN or Inf coordinates"
        raise InputError("data.invalid_polygon", text)
    clipped = [polygon.clip(0, [width, height]).ravel().tolist() for polygon in polygons]
    # Merged before they are decoded: one by one, many polygons would fill the memory.
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(clipped, height, width))).astype(bool)


def decode_rle(rle: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    """Decodes run lengths down the columns, the first one outside the object.

    Not done by pycocotools: a wrong length must not write beyond the end.
    """
    counts = rle.get("counts")
    runs: Any = decode_counts(counts) if isinstance(counts, str) else counts
    problem = ""
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        problem = "the counts of an RLE are not run lengths"
    elif rle.get("size") != [height, width]:
        problem = f"RLE of size {rle.get('size')} for an image of [{height}, {width}]"
    elif sum(runs) != height * width:
        problem = f"RLE covers {sum(runs)} of {height * width} pixels"
    if problem:
        raise InputError("data.invalid_rle", f"{where}: {problem}: correct or remove it")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decode_counts(text: str) -> list[int] | None:
    """Decodes COCO's compressed counts: 5 bits per character, low bits first; from the fourth on, the difference to the last but one.

    Returns None for text that is not valid. Source: ``rleFrString`` of pycocotools.
    """
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
