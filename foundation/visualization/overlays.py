"""Boxes and masks drawn on an image, every class in its color."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foundation.structures import IGNORE, Prediction, Spec

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
GRAY: Color = (127, 127, 127)


def distinct_colors(count: int) -> list[Color]:
    """Returns `count` colors that are easy to tell apart."""
    colormap = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "gist_ncar"]
    steps = range(count) if count <= 20 else np.linspace(0.05, 0.95, count)
    return [tuple(round(255 * v) for v in colormap(step)[:3]) for step in steps]  # type: ignore[misc]


def class_colors(spec: Spec) -> list[Color]:
    """Returns the color of every class. A background is gray, so that the other classes have the same colors with and without it."""
    colors = iter(distinct_colors(sum(name != "background" for name in spec.class_names)))
    return [GRAY if name == "background" else next(colors) for name in spec.class_names]


def mask_legend(spec: Spec) -> list[tuple[str, Color]]:
    """Returns the names and colors of the classes that `draw_mask` draws."""
    named = zip(spec.class_names, class_colors(spec), strict=True)
    return [(name, color) for name, color in named if name != "background"]


def draw_mask(image: Tensor, mask: Tensor, spec: Spec) -> Tensor:
    """Returns `image`, uint8 (3, H, W), with every class of `mask` (H, W) but the background tinted, and ignored pixels white."""
    names, tinted = spec.class_names, image.clone()
    colors = {label: color for label, color in enumerate(class_colors(spec)) if names[label] != "background"}
    for label, color in (colors | {IGNORE: WHITE}).items():
        tinted[:, mask == label] = torch.tensor(color, dtype=torch.uint8)[:, None]
    return (0.5 * image + 0.5 * tinted).to(torch.uint8)


def draw_boxes(image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
    """Returns `image`, uint8 (3, H, W), with boxes (K, 4) as x1, y1, x2, y2 in pixels, their class names and scores.

    The pixels are those of torchvision's `draw_bounding_boxes`, whose import takes 1.3 s.
    """
    labels = prediction["labels"].tolist()
    scores = [f" {score:.2f}" for score in prediction.get("scores", torch.empty(0)).tolist()] or [""] * len(labels)
    side, colors, canvas = min(image.shape[1:]), class_colors(spec), to_pil(image)
    draw, width, font = ImageDraw.Draw(canvas), max(2, side // 110), ImageFont.truetype(FONT, max(10, side // 32))
    for box, label, score in zip(prediction["boxes"].long().tolist(), labels, scores, strict=True):
        draw.rectangle(box, outline=colors[label], width=width)
        text, corner = spec.class_names[label] + score, (box[0] + width + 1, box[1] + width + 1)
        left, top, right, bottom = draw.textbbox(corner, text, font=font)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colors[label])
        draw.text(corner, text, fill="black" if is_bright(colors[label]) else "white", font=font)
    return to_tensor(canvas)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def is_bright(color: Color) -> bool:
    """Whether black text is easier to read on `color` than white."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 150
