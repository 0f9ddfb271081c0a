"""Masks and boxes drawn on a picture, every class in its colour."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import max_pool2d

from foundation.structures import IGNORE, Prediction, Spec

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
DARK = (20, 20, 20)


def colours(count: int) -> list[tuple[int, int, int]]:
    """`count` colours that are easy to tell apart."""
    chosen = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "gist_ncar"]
    steps = range(count) if count <= 20 else np.linspace(0.05, 0.95, count)
    return [tuple(round(255 * v) for v in chosen(step)[:3]) for step in steps]  # type: ignore[misc]


def class_colours(spec: Spec) -> list[tuple[int, int, int]]:
    """The colour of every class; a background is grey, so that the others have the same with it and without."""
    chosen = iter(colours(sum(name != "background" for name in spec.class_names)))
    return [(127, 127, 127) if name == "background" else next(chosen) for name in spec.class_names]


def draw_mask(image: Tensor, mask: Tensor, spec: Spec, factor: int) -> Tensor:
    """Every class but the background in a light tint with its outline; pixels that nobody looks at are hatched."""
    mask = mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    width = max(2, min(mask.shape) // 120)
    shown, palette = image.float(), class_colours(spec)
    drawn = [i for i, name in enumerate(spec.class_names) if name != "background"]
    for i in drawn:  # a rim in the background, beneath all outlines
        outside = (mask != i)[None].float()
        shown = shown * (1 - 0.8 * outside * (1 - eroded(outside, 1)))
    for i in drawn:
        inside = (mask == i)[None].float()
        color = torch.tensor(palette[i], dtype=torch.float32).reshape(3, 1, 1)
        edge = inside * (1 - eroded(inside, width))
        shown = torch.lerp(shown, color.expand_as(shown), 0.25 * inside + 0.75 * edge)
    stripes = (torch.arange(mask.shape[0])[:, None] + torch.arange(mask.shape[1])) // (2 * width) % 3
    hatched = (mask == IGNORE) & (stripes == 0)
    return torch.where(hatched, 255.0, shown).round().to(torch.uint8)


def eroded(inside: Tensor, width: int) -> Tensor:
    """A mask (1, H, W) of 0 and 1 without its outermost `width` pixels; the picture's own edge is none of the mask's."""
    return 1 - max_pool2d(1 - inside[None], 2 * width + 1, 1, width)[0]


def draw_boxes(image: Tensor, answer: Prediction, spec: Spec, factor: int, threshold: float) -> Tensor:
    """Boxes with a dark rim on both sides, drawn around what they hold; tags above, below, or inside where there is no room."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy().copy())
    pencil, palette = ImageDraw.Draw(picture), class_colours(spec)
    size = max(10, min(picture.size) // 32)
    font, line = ImageFont.truetype(FONT, size), max(2, min(picture.size) // 110)
    scores = answer.get("scores")
    for i, (box, label) in enumerate(zip(answer["boxes"].tolist(), answer["labels"].tolist(), strict=True)):
        if scores is not None and scores[i] < threshold:
            continue
        left, top, right, bottom = (round(side * factor) for side in box)
        around = (left - line, top - line, max(left, right) + line, max(top, bottom) + line)
        pencil.rectangle([around[0] - 1, around[1] - 1, around[2] + 1, around[3] + 1], outline=DARK, width=line + 2)
        pencil.rectangle(around, outline=palette[label], width=line)
        word = spec.class_names[label] + ("" if scores is None else f" {float(scores[i]):.2f}")
        write_tag(pencil, word, around, palette[label], font, picture.size)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def write_tag(
    pencil: ImageDraw.ImageDraw,
    word: str,
    box: tuple[int, int, int, int],
    color: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
    room: tuple[int, int],
) -> None:
    """`word` on a plate of `colour` above `box`, below it, or inside; `room` is the picture's width and height."""
    width, height = round(font.getlength(word)) + 4, round(font.size * 1.25)
    left = max(0, min(box[0], room[0] - width))
    top = box[1] - height if box[1] >= height else box[3] + 1 if box[3] + height < room[1] else box[1]
    top = max(0, top)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 150
    pencil.rectangle([left, top, left + width, top + height], fill=color)
    pencil.text((left + 2, top), word, fill=DARK if bright else (255, 255, 255), font=font)


def mask_legend(spec: Spec) -> list[tuple[str, tuple[int, int, int]]]:
    """The names of the classes that are drawn, in their colours."""
    named = zip(spec.class_names, class_colours(spec), strict=True)
    return [(name, color) for name, color in named if name != "background"]
