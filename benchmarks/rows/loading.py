"""Loading: 12-megapixel photographs, generated for the purpose, and the cache of decoded items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from benchmarks.measure import Result, Settings, alternate, compare, row
from benchmarks.resmet_side import compare_epochs, epochs_with_warmup, load_data, run_train
from benchmarks.rivals.classification import classification
from benchmarks.tasks import PAIRS, TORCHVISION

WIDTH, HEIGHT = 4000, 3000
BATCH_SIZE = 8
CACHE_OFF = "data.cache=off"


def photographs(settings: Settings) -> tuple[Path, int]:
    """Returns a folder of photographs in two classes, and the number of training images. A file has about 4 MB, like a camera's."""
    count, root = settings.pick(4, 24), settings.scratch / "photographs"
    for split, index in [("train", i) for i in range(count)] + [("val", i) for i in range(2)]:
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


@row(
    "epoch.photographs",
    TORCHVISION,
    "24 photographs of 12 megapixels, ResNet-18 at 224 pixels, 8 a batch, at our defaults: whole epochs against torchvision's tutorial loop.",
    min_ratio=5.0,
)
def photograph_epochs(settings: Settings) -> Result:
    root, count = photographs(settings)
    return compare_epochs(overrides(root), classification(root, 224, BATCH_SIZE).epoch, count, settings)


@row(
    "decode.12mp",
    "torchvision's ImageFolder: Pillow, Resize, CenterCrop",
    "One photograph after another from file to a uint8 tensor of 224 pixels, one process: `data.load` against torchvision's ImageFolder.",
)
def decode(settings: Settings) -> Result:
    root, _ = photographs(settings)
    _, data = load_data([*overrides(root), CACHE_OFF])
    items = data.datasets["train"].items[: settings.pick(2, 8)]
    rival = ImageFolder(root / "train", Compose([Resize(224), CenterCrop(224), PILToTensor()]))
    ours, theirs = alternate(
        lambda: [data.load(item) for item in items], lambda: [rival[i] for i in range(len(items))], settings.rounds
    )
    return compare(ours, theirs, "items/s", lambda seconds: len(items) / seconds)


class LoadTimer(Callback):
    """Measures the percentage of every epoch in which the loop waits for a batch."""

    def __init__(self) -> None:
        self.percent: list[float] = []
        self.epoch_start = self.request = self.waiting = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epoch_start = self.request = time.perf_counter()
        self.waiting = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.waiting += time.perf_counter() - self.request

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.request = time.perf_counter()
        if batch_idx + 1 == trainer.num_training_batches:
            self.percent.append(max(100 * self.waiting / (self.request - self.epoch_start), 1e-6))


@row(
    "cache.second_epoch",
    "Resmet, cache off",
    "Percent of an epoch after the first that waits for batches, `clothing` at 224 pixels, default cache against none.",
    max_value=5.0,
)
def second_epoch(settings: Settings) -> Result:
    pair = PAIRS["classification"]
    root = pair.root(settings, settings.pick(pair.batch_size, pair.items), 4)
    timers = [LoadTimer(), LoadTimer()]
    for cache, timer in zip(((), (CACHE_OFF,)), timers, strict=True):
        run_train([*pair.at(root), *cache, *epochs_with_warmup(settings.rounds)], settings.scratch, timer)
    ours, theirs = (timer.percent[1:] for timer in timers)
    return compare(ours, theirs, "% waiting", notes=["the rival is Resmet with the cache off"])
