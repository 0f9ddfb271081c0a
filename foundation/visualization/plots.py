"""Everything that a run plots: inputs with predictions, curves and matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foundation.storage.atomic import write_bytes
from foundation.structures import Prediction, Spec
from foundation.targets.kinds import TARGETS
from foundation.visualization.overlays import FONT, to_tensor

MAX_LINES = 8
MAIN_METRICS = {"loss", "mean", "accuracy", "f1", "map_50", "dice"}  # what is plotted of more than MAX_LINES
TITLE_COLORS = {"true": "black", "predicted": "tab:blue", "\u2713": "tab:green", "\u2717": "tab:red"}
"""Background of a title by its first word, which distinguishes truth from prediction, and right from wrong."""

MIN_SIDE = 224  # pixels; smaller images are enlarged before anything is drawn on them


def draw(image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
    """Returns an image as RGB uint8 (3, H', W') with a prediction drawn on it; small images are enlarged first.

    Args:
        image: uint8 (C, H, W); of more than 3 channels the first 3 are shown, of 2 the first.
        prediction: A prediction, or a target in the same form.
        spec: Has the kind of prediction and the class names.
    """
    image = (image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)).cpu()
    prediction = {key: value.cpu() for key, value in prediction.items()}
    factor, kind = max(1, -(-MIN_SIDE // min(image.shape[1:]))), TARGETS[spec.target]
    if factor > 1:
        image = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        prediction = kind.enlarge(prediction, factor)
    return kind.draw(image, prediction, spec)


def show(axes: Axes, signal: Tensor, prediction: Prediction, spec: Spec, title: str) -> None:
    """Plots a signal with a prediction: an image, or a waveform in -1..1 over seconds."""
    background = TITLE_COLORS.get(title.split(":")[0].split(" ")[0])
    text = axes.set_title(escape_dollars(title), fontsize=7)
    if background:
        text.set_color("white")
        text.set_bbox({"boxstyle": "round,pad=0.25", "facecolor": background, "edgecolor": "none"})
    if spec.ndim == 1:
        wave = signal[0].float().cpu().numpy()
        axes.plot(np.arange(len(wave)) / max(1, spec.sample_rate), wave, linewidth=0.4)
        axes.set_xlabel("seconds", fontsize=6)
        axes.tick_params(labelsize=5)
        return
    axes.imshow(draw(signal, prediction, spec).permute(1, 2, 0).numpy())
    axes.axis("off")


def escape_dollars(name: str) -> str:
    """Returns a name with its dollar signs escaped: matplotlib would parse what is between two of them as a formula."""
    return name.replace("$", r"\$")


def grid(cells: Sequence[Callable[[Axes], None]], spec: Spec, columns: int = 4) -> Figure:
    """Returns a grid of small plots, with a legend of the colors where `spec` has one."""
    columns = min(columns, max(1, len(cells)))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows + 0.15), layout=ConstrainedLayoutEngine(h_pad=0.1))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, cell in zip(grid, cells, strict=False):
        cell(axes)
    for axes in grid[len(cells) :]:
        axes.axis("off")
    if legend := TARGETS[spec.target].legend(spec):
        patches = [
            Patch(color=(color[0] / 255, color[1] / 255, color[2] / 255), label=escape_dollars(name))
            for name, color in legend
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=8)
    return figure


def curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plots losses, scores and the learning rate by epoch, from the rows of metrics.csv."""
    groups = {"loss": "train/", "validation": "val/", "learning rate": "lr"}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, (title, prefix) in zip(figure.subplots(1, 3), groups.items(), strict=True):
        names = [name for name in dict.fromkeys(name for row in rows for name in row) if name.startswith(prefix)]
        if len(names) == 2 and prefix == "train/":
            names = ["train/loss"]  # equal to the single loss
        names = [name for name in names if name != "val/score"]  # equal to one of the others
        if len(names) > MAX_LINES:
            names = [name for name in names if name.rsplit("/", 1)[-1] in MAIN_METRICS]
        for name in names:
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        finish_curves(axes, title, [row["epoch"] for row in rows])
    return figure


def finish_curves(axes: Axes, title: str, epochs: Sequence[Any]) -> None:
    """Labels the axes, with a legend below them, and a logarithmic scale if losses differ by more than a factor of 20."""
    heights = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata()) if np.isfinite(y) and y > 0]
    if title == "loss" and heights and max(heights) > 20 * min(heights):
        axes.set_yscale("log")
        title = "loss, logarithmic"
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines and title != "learning rate":
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7, frameon=False)
    axes.margins(y=0.08)
    axes.set_xlim(0.5, max(map(int, epochs), default=1) + 0.5)


def rates(tried: Sequence[float], losses: Sequence[float], smooth: Sequence[float], chosen: float | None) -> Figure:
    """Plots the losses of a learning rate range test, their average as far as it was computed, and the rate that was chosen."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(tried, losses, color="lightgray", label="loss")
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
    """Plots a confusion matrix (C, C) with true classes in rows: fractions of the row as color, counts as text for up to 20 classes."""
    counts = matrix.cpu().double().numpy()
    fractions = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = min(14.0, 2.2 + 0.45 * len(names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.7, label="fraction of the true class")
    ticks = range(len(names)) if len(names) <= 40 else range(0, len(names), len(names) // 20)
    axes.set_xticks(ticks, [escape_dollars(names[i]) for i in ticks], rotation=90, fontsize=7)
    axes.set_yticks(ticks, [escape_dollars(names[i]) for i in ticks], fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= 20:
        for i, j in np.ndindex(counts.shape):
            if counts[i, j]:
                words = f"{int(counts[i, j])}" if counts.max() < 1e5 else f"{fractions[i, j]:.2f}"
                axes.text(
                    j,
                    i,
                    words,
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if fractions[i, j] > 0.5 else "black",
                )
    return figure


def precision_recall(precision: Tensor, recall: Tensor, names: Sequence[str]) -> Figure:
    """Plots a curve per class, of the first 20; `precision` and `recall` are (C, P)."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names[:20]):
        axes.plot(recall[i].cpu().numpy(), precision[i].cpu().numpy(), label=escape_dollars(name), linewidth=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG atomically."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110, pil_kwargs={"compress_level": 1})  # twice as fast, 20 % larger
    write_bytes(path, buffer.getvalue())


def add_caption(image: Tensor, words: Sequence[tuple[str, tuple[int, int, int]]]) -> Tensor:
    """Returns an image, uint8 (3, H, W), with a line of text above it, every word in its color and small enough to fit; as it is without words."""
    if not words:
        return image
    width = image.shape[2]
    line = "  ".join(word for word, _ in words)
    size = max(12, width // 24)
    font = ImageFont.truetype(FONT, size)
    while size > 7 and font.getlength(line) > width - size:
        size -= 1
        font = ImageFont.truetype(FONT, size)
    strip = Image.new("RGB", (width, size + size // 2), (20, 20, 20))
    left = size / 3
    for word, color in words:
        ImageDraw.Draw(strip).text((left, size // 6), word, fill=color, font=font)
        left += font.getlength(f"{word}  ")
    return torch.cat([to_tensor(strip), image], 1)
