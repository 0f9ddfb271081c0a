"""Loading: 12-megapixel photographs, generated for the purpose, and the cache of decoded items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, PILToTensor

from benchmarks.ab_timing import Result, Settings, alternate, compare
from benchmarks.registry import Row
from benchmarks.resmet_side import epochs_with_warmup, load_data, run_train
from benchmarks.rivals.classification import classification, resize
from benchmarks.rows.training import interleaved_epochs
from benchmarks.task_pairs import PAIRS, TORCHVISION

WIDTH, HEIGHT = 4000, 3000
BATCH_SIZE = 8
CACHE_OFF = "data.cache=off"


def photographs(settings: Settings) -> tuple[Path, int]:
    """Returns a folder of photographs in two classes, and the number of training images. A file has about 4 MB, like a camera's."""
    count, root = settings.pick(4, 24), settings.scratch / "photographs"
    files = [(split, index) for split, number in (("train", count), ("val", 2)) for index in range(number)]
    for split, index in files if not root.is_dir() else ():
        random = np.random.default_rng([len(split), index])
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-12, 13, (HEIGHT, WIDTH, 1), dtype=np.int16)
        path = root / split / ("left", "right")[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return root, count


def overrides(root: Path) -> tuple[str, ...]:
    return ("data=image_folder", f"data.root={root}", "data.size=224", f"data.batch_size={BATCH_SIZE}")


def decode(settings: Settings) -> Result:
    root, _ = photographs(settings)
    _, data = load_data([*overrides(root), CACHE_OFF])
    items = data.datasets["train"].items[: settings.pick(2, 8)]
    rival = ImageFolder(str(root / "train"), Compose([*resize(224), PILToTensor()]))
    ours, theirs = alternate(
        lambda: [data.load(item) for item in items], lambda: [rival[i] for i in range(len(items))], settings.rounds
    )
    return compare(ours, theirs, "items/s", len(items))


def photograph_epochs(settings: Settings) -> Result:
    root, count = photographs(settings)
    return interleaved_epochs(overrides(root), classification(root, 224, BATCH_SIZE).epoch, count, settings)


class LoadTimer(Callback):
    """Measures the seconds of every epoch, and those in which the loop waits for a batch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.waiting: list[float] = []
        self.epoch_start = self.request = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epoch_start = self.request = time.perf_counter()
        self.waiting.append(0.0)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.waiting[-1] += time.perf_counter() - self.request

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.request = time.perf_counter()
        if batch_idx + 1 == trainer.num_training_batches:
            self.epochs.append(self.request - self.epoch_start)

    def percent(self) -> list[float]:
        """Returns the percentage of every epoch after the first that waits for batches."""
        return [max(100 * wait / whole, 1e-6) for wait, whole in zip(self.waiting[1:], self.epochs[1:], strict=False)]


def second_epoch(settings: Settings) -> Result:
    pair = PAIRS["classification"]
    root = pair.root(settings, settings.pick(pair.quick_items, pair.items), 4)
    percent = []
    for cache in ((), (CACHE_OFF,)):
        timer = LoadTimer()
        run_train([*pair.at(root), *cache, *epochs_with_warmup(settings.rounds)], settings.scratch, timer)
        percent.append(timer.percent())
    return compare(percent[0], percent[1], "% waiting", notes=["the rival is Resmet with the cache off"])


ROWS = (
    Row(
        "epoch.photographs",
        "24 photographs of 12 megapixels, ResNet-18 at 224 pixels, 8 a batch, at our defaults: whole epochs against torchvision's tutorial loop.",
        TORCHVISION,
        photograph_epochs,
        5.0,
    ),
    Row(
        "decode.12mp",
        "One photograph after another from file to a uint8 tensor of 224 pixels, one process: `data.load` against torchvision's ImageFolder.",
        "torchvision's ImageFolder: Pillow, Resize, CenterCrop",
        decode,
    ),
    Row(
        "cache.second_epoch",
        "Percent of an epoch after the first that waits for batches, `clothing` at 224 pixels, default cache against none.",
        "Resmet, cache off",
        second_epoch,
        max_value=5.0,
    ),
)
