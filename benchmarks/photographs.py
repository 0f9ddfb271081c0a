"""Rows of 12-megapixel photographs, drawn for the purpose: decoding them, and whole epochs; and of the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from lightning.pytorch import Callback
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, PILToTensor

from benchmarks.epochs import turns
from benchmarks.ours import compose, prepared, rounds_of_epochs, run
from benchmarks.pairs import PAIRS
from benchmarks.rivals.classification import classification, still
from benchmarks.rounds import Result, Settings, compared, take_turns
from datamodules.base.datamodule import DataModule

WIDTH, HEIGHT = 4000, 3000
BATCH = 8


def draw(folder: Path, train: int, val: int) -> Path:
    """JPEG files of 12 megapixels in two classes, quality 92: smooth shapes with fine grain, about 4 MB each, as cameras make them."""
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            random = np.random.default_rng([len(split), index])
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
            grain = random.integers(-12, 13, (HEIGHT, WIDTH, 1), dtype=np.int16)
            path = folder / split / ("left", "right")[index % 2] / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return folder


def drawn(settings: Settings) -> tuple[Path, int]:
    """The folder of photographs, drawn once, and how many are there to learn from."""
    count = settings.few(4, 24)
    folder = settings.scratch / "photographs"
    return (folder if folder.is_dir() else draw(folder, count, 2)), count


def words_of(root: Path) -> tuple[str, ...]:
    return ("data=image_folder", f"data.root={root}", "data.size=224", f"data.batch_size={BATCH}")


def uncached() -> str:
    """The word that leaves the cache off: a switch, or one of several choices."""
    return (
        f"data.cache={'false' if isinstance(compose(('data=image_folder', 'data.root=.')).data.cache, bool) else 'off'}"
    )


def decode(settings: Settings) -> Result:
    """One photograph after another from file to a uint8 tensor of 224 pixels, one process: `data.load` against torchvision's ImageFolder."""
    root, _ = drawn(settings)
    _, data = prepared([*words_of(root), uncached()])
    items = data.splits["train"].items[: settings.few(2, 8)]
    there = ImageFolder(str(root / "train"), Compose([*still(224), PILToTensor()]))
    found = take_turns(
        lambda: [data.load(item) for item in items], lambda: [there[i] for i in range(len(items))], settings.rounds
    )
    return compared(*found, "items/s", len(items))


def epochs(settings: Settings) -> Result:
    """24 photographs, ResNet-18 at 224 pixels, 8 a batch, at our defaults: whole epochs against torchvision's tutorial loop."""
    root, count = drawn(settings)
    return turns(words_of(root), classification(root, 224, BATCH).epoch, count, settings)


class Waiting(Callback):
    """Seconds of every epoch, and those of them that it waited for batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waited: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = time.perf_counter()
        self.waited.append(0.0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds.append(time.perf_counter() - self.began)

    def shares(self) -> list[float]:
        """Per cent of every epoch after the first."""
        return [100 * wait / whole for wait, whole in zip(self.waited[1:], self.seconds[1:], strict=False)]


class Watched:
    """A loader whose batches are waited for by a clock; anything else that is asked of it is asked of the loader."""

    def __init__(self, loader: Any, clock: Waiting) -> None:
        self.loader, self.clock = loader, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        began = time.perf_counter()
        for batch in self.loader:
            if self.clock.waited:
                self.clock.waited[-1] += time.perf_counter() - began
            yield batch
            began = time.perf_counter()


def second_epoch(settings: Settings) -> Result:
    """Per cent of an epoch after the first that is spent waiting for batches, `clothing` at 224 pixels, cache as by default and off."""
    pair = PAIRS["classification"]
    words = pair.said(pair.root(settings, settings.few(pair.few, pair.items), 4))
    shares = [waiting([*words, *more], settings) for more in ((), (uncached(),))]
    found = compared(shares[0], shares[1], "% waiting")
    found.notes.append("the rival is our own run with the cache off")
    return found


def waiting(words: list[str], settings: Settings) -> list[float]:
    clock, make = Waiting(), DataModule.train_dataloader
    with patch.object(DataModule, "train_dataloader", lambda data: Watched(make(data), clock)):
        run([*words, *rounds_of_epochs(settings.rounds)], settings.scratch, clock)
    return [max(share, 1e-6) for share in clock.shares()]


ROWS = {"decode.12mp": decode, "epoch.photographs": epochs, "cache.second_epoch": second_epoch}
