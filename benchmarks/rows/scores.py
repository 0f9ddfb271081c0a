"""Scores: seconds until the rival's final score is reached, and scores at bf16 and fp32. These rows take minutes, and run only if named."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from statistics import mean, stdev

from benchmarks.measure import Result, Settings, compare, row, timed
from benchmarks.resmet_side import Interleave, run_train, torch_defaults
from benchmarks.tasks import PAIRS, Pair

MNIST = replace(
    PAIRS["classification"], source="mnist_png", overrides=("data=image_folder", "data.augment.horizontal_flip=0")
)
Setup = tuple[Pair, int, int, int, tuple[str, ...]]
PRECISION: dict[str, tuple[str, Setup]] = {
    "classification": (
        "900 images of `mnist_png` at 28 pixels, ResNet-18 of width 32, 8 epochs: accuracy on 500 more",
        (MNIST, 900, 500, 8, ("backbone.width=32",)),
    ),
    "detection": (
        "64 images of `bccd` at 192 pixels, ResNet-18 of width 16, 12 epochs: map_50 on 48 more",
        (PAIRS["detection"], 64, 48, 12, ("data.size=192", "backbone.width=16")),
    ),
    "segmentation": (
        "24 crops of `membrane` at 128 pixels, U-Net of width 16, 8 epochs: score",
        (PAIRS["segmentation"], 24, 4, 8, ("data.augment.random_crop=128", "backbone.width=16")),
    ),
    "audio": (
        "600 clips of `fsdd`, ResNet-18 of width 16, 6 epochs: accuracy",
        (PAIRS["audio"], 600, 150, 6, ("backbone.width=16",)),
    ),
}
SCORE: dict[str, tuple[str, Setup]] = {
    "classification": (
        "400 images of `clothing`, ResNet-18 from random weights at 128 pixels, 12 epochs: seconds to the tutorial loop's final accuracy.",
        (PAIRS["classification"], 400, 120, 12, ("data.size=128",)),
    ),
    "detection": (
        "32 images of `bccd` at 320 pixels, 10 epochs, same image size and widths: seconds to the tutorial loop's final map_50.",
        (PAIRS["detection_alike"], 32, 12, 10, ("data.size=320",)),
    ),
    "segmentation": (
        "24 crops of `membrane` at 256 pixels, 10 epochs: seconds to the final Dice score, mean of both classes, of the loop of smp's examples.",
        (PAIRS["segmentation"], 24, 6, 10, ()),
    ),
    "audio": (
        "640 clips of `fsdd`, 8 epochs: seconds to the tutorial loop's final accuracy.",
        (PAIRS["audio"], 640, 100, 8, ()),
    ),
}


def precision(pair: Pair, train: int, val: int, epochs: int, overrides: tuple[str, ...], settings: Settings) -> Result:
    """Compares the last validation score of three seeds at bf16 and at fp32."""
    if settings.quick:
        train, val, epochs = pair.batch_size, 4, 1
    words = [*pair.at(pair.root(settings, train, val)), *overrides, f"trainer.max_epochs={epochs}"]
    scores: dict[str, list[float]] = {"bf16-mixed": [], "32-true": []}
    for seed in range(settings.pick(1, 3)):
        for name, values in scores.items():
            run = (f"trainer.precision={name}", f"seed={seed}", f"trainer.check_val_every_n_epoch={epochs}")
            folder = run_train([*words, *run], settings.scratch)
            values.append(max(float(json.loads((folder / "metrics.json").read_text())["score"] or 0), 1e-9))
    half, full = scores.values()
    deviation = max(stdev(half), stdev(full)) if len(half) > 1 else 0.0
    note = f"difference of the means {mean(half) - mean(full):+.3f}, standard deviation {deviation:.3f}"
    ours, theirs = ([1 / value for value in values] for values in (half, full))  # compare() takes costs
    return compare(ours, theirs, "score", lambda cost: 1 / cost, [note])


def time_to_score(
    pair: Pair, train: int, val: int, epochs: int, overrides: tuple[str, ...], settings: Settings
) -> Result:
    """Trains both for the same number of epochs, alternately. Resmet's time counts everything from the start, validation included; the
    rival's counts its epochs and one evaluation."""
    if settings.quick:
        train, val, epochs = pair.batch_size, 4, 2
    root = pair.root(settings, train, val)
    rival = pair.make_rival(root, overrides)
    clock = Interleave(lambda trainer: rival.epoch)
    run = (f"trainer.max_epochs={epochs}", "trainer.check_val_every_n_epoch=1")
    run_train([*pair.at(root), *overrides, *run], settings.scratch, clock)
    scores: list[float] = []
    with torch_defaults():
        evaluation = timed(lambda: scores.append(rival.evaluate()))
    reached = [seconds for score, seconds in clock.scores if score >= scores[0]]
    best = max(score for score, _ in clock.scores)
    note = f"the rival reached {scores[0]:.3f}; Resmet at best {best:.3f} within {clock.scores[-1][1]:.0f} s"
    return compare([*reached, float("inf")][:1], [sum(clock.theirs) + evaluation], "s", notes=[note])


for task, (text, setup) in PRECISION.items():
    text += " of 3 seeds at bf16 and at fp32."
    row(f"precision.{task}", "the same at fp32", text)(partial(precision, *setup))
for task, (text, setup) in SCORE.items():
    row(f"score.{task}", setup[0].rival, text, min_ratio=2.0)(partial(time_to_score, *setup))
