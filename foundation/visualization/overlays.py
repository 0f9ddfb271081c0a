"""Boxes and masks drawn on an image, every class in its color."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from foundation.structures import IGNORE, Prediction, Spec

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
GREY: Color = (127, 127, 127)


def distinct_colors(count: int) -> list[Color]:
    """Returns `count` colors that are easy to tell apart."""
    colormap = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "gist_ncar"]
    steps = range(count) if count <= 20 else np.linspace(0.05, 0.95, count)
    return [tuple(round(255 * v) for v in colormap(step)[:3]) for step in steps]  # type: ignore[misc]


def class_colors(spec: Spec) -> list[Color]:
    """Returns the color of every class. A background is grey, so that the other classes have the same colors with and without it."""
    colors = iter(distinct_colors(sum(name != "background" for name in spec.class_names)))
    return [GREY if name == "background" else next(colors) for name in spec.class_names]


def mask_legend(spec: Spec) -> list[tuple[str, Color]]:
    """Returns the names and colors of the classes that `draw_mask` draws."""
    named = zip(spec.class_names, class_colors(spec), strict=True)
    return [(name, color) for name, color in named if name != "background"]


def draw_mask(image: Tensor, mask: Tensor, spec: Spec) -> Tensor:
    """Returns `image`, uint8 (3, H, W), with every class of `mask` (H, W) but the background tinted, and ignored pixels white."""
    layers = [(i, color) for i, color in enumerate(class_colors(spec)) if spec.class_names[i] != "background"]
    layers.append((IGNORE, WHITE))
    masks = torch.stack([mask == label for label, _ in layers])
    return draw_segmentation_masks(image, masks, alpha=0.5, colors=[color for _, color in layers])


def draw_boxes(image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
    """Returns `image`, uint8 (3, H, W), with boxes (K, 4) as x1, y1, x2, y2 in pixels, their class names and scores."""
    if not len(prediction["boxes"]):
        return image
    side, labels = min(image.shape[1:]), prediction["labels"].tolist()
    names, colors = [spec.class_names[label] for label in labels], [class_colors(spec)[label] for label in labels]
    if "scores" in prediction:
        names = [f"{name} {score:.2f}" for name, score in zip(names, prediction["scores"].tolist(), strict=True)]
    return draw_bounding_boxes(
        image,
        prediction["boxes"],
        names,
        list(colors),
        width=max(2, side // 110),
        font=FONT,
        font_size=max(10, side // 32),
        label_colors=["black" if is_bright(color) else "white" for color in colors],
        label_background_colors=list(colors),
        fill_labels=True,
    )


def is_bright(color: Color) -> bool:
    """Whether black text is easier to read on `color` than white."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 150
