"""Rows ``score.*`` and ``precision.*``: what is learnt, and how soon. They take minutes each and are asked for by name."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import mean, stdev

from lightning.pytorch import Callback

from benchmarks.beside import Epochs, untouched
from benchmarks.ours import run
from benchmarks.pairs import PAIRS, Pair
from benchmarks.rounds import Result, Settings, clock, compared

SEEDS = 3


def classification(settings: Settings) -> Result:
    """400 pictures of `clothing`, ResNet-18 from random weights at 128 pixels, 12 epochs: seconds to the tutorial loop's final accuracy."""
    return race(PAIRS["classification"], settings, 400, 120, 12, "data.size=128")


def detection(settings: Settings) -> Result:
    """32 pictures of `bccd` at 320 pixels, 10 epochs, image size and widths alike: seconds to the tutorial loop's final map_50."""
    return race(PAIRS["detection_alike"], settings, 32, 12, 10, "data.size=320")


def segmentation(settings: Settings) -> Result:
    """24 cut-outs of `membrane` at 256 pixels, 10 epochs: seconds to the final dice, mean of both classes, of the loop of smp's examples."""
    return race(PAIRS["segmentation"], settings, 24, 6, 10)


def audio(settings: Settings) -> Result:
    """640 clips of `fsdd`, 8 epochs: seconds to the tutorial loop's final accuracy."""
    return race(PAIRS["audio"], settings, 640, 100, 8)


def race(pair: Pair, settings: Settings, train: int, val: int, epochs: int, *words: str) -> Result:
    """Both train for as many epochs, in turn. Ours counts everything from the start, validation too; the rival's its epochs and one score."""
    if settings.quick:
        train, val, epochs = pair.few, 4, 2
    root = pair.root(settings, train, val)
    rival = pair.make_rival(root, *words)
    beside = Epochs(rival.epoch)
    run([*pair.said(root), *words, f"trainer.max_epochs={epochs}", "trainer.every=1"], settings.scratch, beside)
    scores: list[float] = []
    with untouched():
        judging = clock(lambda: scores.append(rival.score()))
    seconds, aim = sum(beside.theirs) + judging, scores[0]
    there = [spent for score, spent in beside.reached if score >= aim]
    best = max(score for score, _ in beside.reached)
    found = compared([there[0] if there else float("inf")], [seconds], "s")
    found.notes.append(
        f"the plain loop came to {aim:.3f}; ours at best to {best:.3f} within {beside.reached[-1][1]:.0f} s"
    )
    found.raw["reached"] = beside.reached
    return found


class Nothing(Callback):
    """Looks on."""


def precise(pair: Pair, settings: Settings, train: int, val: int, epochs: int, *words: str) -> Result:
    """The last validation score of three seeds at bf16 and at fp32, the same number of epochs."""
    if settings.quick:
        train, val, epochs = pair.few, 4, 1
    root = pair.root(settings, train, val)
    scores: dict[str, list[float]] = {"bf16-mixed": [], "32-true": []}
    for seed in range(settings.few(1, SEEDS)):
        for precision, found in scores.items():
            more = (f"trainer.precision={precision}", f"seed={seed}", f"trainer.max_epochs={epochs}")
            folder = run([*pair.said(root), *words, *more, f"trainer.every={epochs}"], settings.scratch, Nothing())
            found.append(float(json.loads((folder / "metrics.json").read_text())["score"] or 0))
    half, full = scores["bf16-mixed"], scores["32-true"]
    lows = [value / max(other, 1e-9) for value, other in zip(half, full, strict=True)]
    spread = max(stdev(half), stdev(full)) if len(half) > 1 else 0.0
    said = f"difference of the means {mean(half) - mean(full):+.3f}, standard deviation over seeds {spread:.3f}"
    raw = {"ours": half, "theirs": full}
    return Result(
        mean(half),
        "score",
        mean(full),
        mean(half) / max(mean(full), 1e-9),
        min(lows),
        max(lows),
        len(half),
        [said],
        raw,
    )


def precise_classification(settings: Settings) -> Result:
    """900 pictures of `mnist_png` at 28 pixels, ResNet-18 of width 32, 8 epochs: accuracy on 500 more, of 3 seeds at bf16 and at fp32."""
    pair = replace(
        PAIRS["classification"], source="mnist_png", words=("data=image_folder", "data.augment.horizontal_flip=0")
    )
    return precise(pair, settings, 900, 500, 8, "backbone.width=32")


def precise_detection(settings: Settings) -> Result:
    """64 pictures of `bccd` at 192 pixels, ResNet-18 of width 16, 12 epochs: map_50 on 48 more, of 3 seeds at bf16 and at fp32."""
    return precise(PAIRS["detection"], settings, 64, 48, 12, "data.size=192", "backbone.width=16")


def precise_segmentation(settings: Settings) -> Result:
    """24 cut-outs of `membrane` at 128 pixels, U-Net of width 16, 8 epochs: score of 3 seeds at bf16 and at fp32."""
    return precise(PAIRS["segmentation"], settings, 24, 4, 8, "data.augment.random_crop=128", "backbone.width=16")


def precise_audio(settings: Settings) -> Result:
    """600 clips of `fsdd`, ResNet-18 of width 16, 6 epochs: accuracy of 3 seeds at bf16 and at fp32."""
    return precise(PAIRS["audio"], settings, 600, 150, 6, "backbone.width=16")


ROWS = {
    "score.classification": classification,
    "score.detection": detection,
    "score.segmentation": segmentation,
    "score.audio": audio,
    "precision.classification": precise_classification,
    "precision.detection": precise_detection,
    "precision.segmentation": precise_segmentation,
    "precision.audio": precise_audio,
}
