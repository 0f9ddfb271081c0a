"""Signals with their answers on them, and sheets, curves and matrices: everything that is a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from structures import IGNORE, Prediction, Spec

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
MOST_LINES = 8
CHIEF = {"loss", "mean", "accuracy", "f1", "map_50", "dice"}  # of many curves, those that decide
SMALLEST = 224  # pictures smaller than this are enlarged before anything is written on them


def colours(count: int) -> list[tuple[int, int, int]]:
    """`count` colours that are easy to tell apart."""
    chosen = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "gist_ncar"]
    steps = range(count) if count <= 20 else np.linspace(0.05, 0.95, count)
    return [tuple(round(255 * v) for v in chosen(step)[:3]) for step in steps]  # type: ignore[misc]


def caption(answer: Prediction, spec: Spec) -> str:
    """An answer in words: classes with their probabilities, or how many objects."""
    if "labels" in answer and "boxes" not in answer:
        odds = answer.get("probabilities")
        names = [
            spec.class_names[int(i)] + (f" {float(odds[int(i)]):.2f}" if odds is not None else "")
            for i in answer["labels"]
        ]
        return ", ".join(names[:4]) or "none"
    if "boxes" in answer:
        counts = Counter(spec.class_names[int(i)] for i in answer["labels"])
        return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())[:5]) or "nothing"
    present = [spec.class_names[i] for i in sorted({int(v) for v in answer["mask"].unique()} - {IGNORE})]
    return ", ".join(present[:4])


def draw(image: Tensor, answer: Prediction, spec: Spec, threshold: float = 0.0) -> Tensor:
    """An image uint8 (C, H, W) as RGB (3, H', W') with boxes or masks drawn on it, small ones enlarged.

    Args:
        image: The picture; of more than 3 channels the first 3 are shown, of 2 the first.
        answer: A prediction, or a target in the same form.
        spec: Whose class names are written.
        threshold: Boxes below this score are left out, 0 to 1.
    """
    image = (image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)).cpu()
    factor = max(1, -(-SMALLEST // min(image.shape[1:])))
    if factor > 1:
        size = [side * factor for side in image.shape[1:]]
        image = functional.resize(image, size, InterpolationMode.NEAREST_EXACT)
    palette = colours(spec.num_classes)
    if "mask" in answer:
        return draw_mask(image, answer["mask"].cpu(), spec, palette, factor)
    if "boxes" in answer and len(answer["boxes"]):
        return draw_boxes(image, answer, spec, palette, factor, threshold)
    return image


def draw_mask(image: Tensor, mask: Tensor, spec: Spec, palette: list, factor: int) -> Tensor:
    mask = mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    shown = [i for i, name in enumerate(spec.class_names) if name != "background"]
    masks = torch.stack([mask == i for i in shown])
    return draw_segmentation_masks(image.contiguous(), masks, alpha=0.45, colors=[palette[i] for i in shown])


def draw_boxes(image: Tensor, answer: Prediction, spec: Spec, palette: list, factor: int, threshold: float) -> Tensor:
    scores = answer.get("scores")
    keep = range(len(answer["boxes"])) if scores is None else [i for i, s in enumerate(scores) if s >= threshold]
    if not keep:
        return image
    labels = [int(answer["labels"][i]) for i in keep]
    words = [
        spec.class_names[c] + ("" if scores is None else f" {float(scores[i]):.2f}")
        for i, c in zip(keep, labels, strict=True)
    ]
    height, width = image.shape[1:]
    limit = torch.tensor([width - 1, height - 1, width - 1, height - 1])
    boxes = (answer["boxes"].cpu()[list(keep)] * factor).round().long().clamp(min=0).minimum(limit)
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:].maximum(boxes[:, :2])], 1)
    size = max(10, min(height, width) // 32)
    chosen: list[Any] = [palette[c] for c in labels]
    return draw_bounding_boxes(
        image.contiguous(),
        boxes,
        words,
        chosen,
        width=max(1, size // 7),
        font=FONT,
        font_size=size,
        label_colors="white",
        label_background_colors=chosen,
        fill_labels=True,
    )


def show(axes: Axes, signal: Tensor, answer: Prediction, spec: Spec, title: str, threshold: float = 0.0) -> None:
    """One signal with its answer: an image, or a waveform in -1..1 over seconds."""
    axes.set_title(title, fontsize=7)
    if spec.ndim == 1:
        wave = signal[0].float().cpu().numpy()
        axes.plot(np.arange(len(wave)) / max(1, spec.sample_rate), wave, linewidth=0.4)
        axes.set_xlabel("seconds", fontsize=6)
        axes.tick_params(labelsize=5)
        return
    axes.imshow(draw(signal, answer, spec, threshold).permute(1, 2, 0).numpy())
    axes.axis("off")


def sheet(cells: Sequence[Callable[[Axes], None]], spec: Spec, columns: int = 4) -> Figure:
    """A grid of small pictures; where masks are drawn, a legend of their colours."""
    columns = min(columns, max(1, len(cells)))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, cell in zip(grid, cells, strict=False):
        cell(axes)
    for axes in grid[len(cells) :]:
        axes.axis("off")
    if spec.target == "mask":
        patches = [Patch(color=(c[0] / 255, c[1] / 255, c[2] / 255), label=name) for name, c in mask_legend(spec)]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=8)
    return figure


def curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Losses, scores and learning rate by epoch, from the rows of metrics.csv."""
    groups = {"loss": "train/", "validation": "val/", "learning rate": "lr"}
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (title, prefix) in zip(figure.subplots(1, 3), groups.items(), strict=True):
        names = [name for name in dict.fromkeys(name for row in rows for name in row) if name.startswith(prefix)]
        if len(names) == 2 and prefix == "train/":
            names = ["train/loss"]  # a single loss is its own sum
        names = [name for name in names if name != "val/score"]  # it is one of the others
        if len(names) > MOST_LINES:
            names = [name for name in names if name.rsplit("/", 1)[-1] in CHIEF]
        for name in names:
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if names and prefix != "lr":
            axes.legend(fontsize=6 if len(names) > 4 else 7, framealpha=0.6)
        axes.margins(y=0.08)
        axes.set_xlim(0.5, max((int(row["epoch"]) for row in rows), default=1) + 0.5)
    return figure


def rates(tried: Sequence[float], losses: Sequence[float], smooth: Sequence[float], chosen: float | None) -> Figure:
    """The losses of a sweep over learning rates, their average as far as it goes, and the rate that was chosen."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(tried, losses, color="lightgrey", label="loss")
    axes.plot(tried[: len(smooth)], smooth, label="average")
    if chosen is not None:
        axes.axvline(chosen, color="tab:red", label=f"chosen: {chosen:.3g}")
    finite = [loss for loss in losses if np.isfinite(loss)]
    axes.set_ylim(0, 1.5 * max(finite[:10], default=1.0))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def confusion(matrix: Tensor, names: Sequence[str]) -> Figure:
    """True classes in rows, shares of the row as colour, counts as text where there is room."""
    counts = matrix.cpu().double().numpy()
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = min(14.0, 2.2 + 0.45 * len(names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    ticks = range(len(names)) if len(names) <= 40 else range(0, len(names), len(names) // 20)
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90, fontsize=7)
    axes.set_yticks(ticks, [names[i] for i in ticks], fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= 20:
        for i, j in np.ndindex(counts.shape):
            if counts[i, j]:
                words = f"{int(counts[i, j])}" if counts.max() < 1e5 else f"{shares[i, j]:.2f}"
                axes.text(
                    j, i, words, ha="center", va="center", fontsize=6, color="white" if shares[i, j] > 0.5 else "black"
                )
    return figure


def precision_recall(precision: Tensor, recall: Tensor, names: Sequence[str]) -> Figure:
    """A curve a class; `precision` and `recall` are (C, P)."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names[:20]):
        axes.plot(recall[i].cpu().numpy(), precision[i].cpu().numpy(), label=name, linewidth=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)


def banner(image: Tensor, words: Sequence[tuple[str, tuple[int, int, int]]]) -> Tensor:
    """An image uint8 (3, H, W) with a line of text above it, every word in its colour; as small as it must be to fit."""
    width = image.shape[2]
    line = "  ".join(word for word, _ in words)
    size = max(12, width // 24)
    font = ImageFont.truetype(FONT, size)
    while size > 7 and font.getlength(line) > width - size:
        size -= 1
        font = ImageFont.truetype(FONT, size)
    strip = Image.new("RGB", (width, size + size // 2), (20, 20, 20))
    left = size / 3
    for word, colour in words:
        ImageDraw.Draw(strip).text((left, size // 6), word, fill=colour, font=font)
        left += font.getlength(f"{word}  ")
    return torch.cat([torch.from_numpy(np.array(strip)).permute(2, 0, 1), image], 1)


def mask_legend(spec: Spec) -> list[tuple[str, tuple[int, int, int]]]:
    """The names of the classes that are drawn, in their colours."""
    named = zip(spec.class_names, colours(spec.num_classes), strict=True)
    return [(name, colour) for name, colour in named if name != "background"]
