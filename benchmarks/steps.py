"""Rows ``step.*``: the training step alone, batches in memory."""

from __future__ import annotations

from typing import Any

from benchmarks.beside import Steps
from benchmarks.ours import Memory, run
from benchmarks.pairs import PAIRS, Pair
from benchmarks.rivals.tutorial import Tutorial
from benchmarks.rounds import Result, Settings, compared

KEPT = 2
"""Different batches in memory."""


def classification(settings: Settings) -> Result:
    """ResNet-18 at 224 pixels, 32 pictures a batch: Lightning at our defaults against the tutorial's step."""
    return steps(PAIRS["classification"], settings)


def detection(settings: Settings) -> Result:
    """Faster R-CNN on ResNet-18, 4 pictures a batch, image size and widths alike: ours against the tutorial's step."""
    return steps(PAIRS["detection_alike"], settings)


def segmentation(settings: Settings) -> Result:
    """U-Net on ResNet-18 at 256 pixels, 4 pictures a batch: ours against the step of smp's examples."""
    return steps(PAIRS["segmentation"], settings)


def audio(settings: Settings) -> Result:
    """ResNet-18 over the waveform, 32 clips a batch: ours against a tutorial's step."""
    return steps(PAIRS["audio"], settings)


def steps(pair: Pair, settings: Settings) -> Result:
    """Steps of both in turn, within one run of ours."""
    size = 32 if pair.turn > 1 and pair.source != "membrane" else 4
    root = pair.root(settings, KEPT * size, 4)
    rival = pair.make_rival(root, *pair.still)
    turn = settings.few(1, pair.turn)
    beside = Steps(lambda trainer, batch: of_tutorial(rival), turn)
    words = [*pair.said(root), *pair.still, "trainer.max_epochs=1"]
    run(words, settings.scratch, beside, Memory(KEPT, turn * (settings.rounds + 1)))
    return compared(milli(beside.ours), milli(beside.theirs), "ms/step")


def of_tutorial(rival: Tutorial) -> Any:
    """One step after another of a tutorial's loop, on its first batches, kept in memory."""
    batches = [batch for batch, _ in zip(rival.train, range(KEPT), strict=False)]
    rival.net.train()
    place = 0

    def step() -> None:
        nonlocal place
        rival.step(batches[place % len(batches)])
        place += 1

    return step


def milli(seconds: list[float]) -> list[float]:
    return [1000 * value for value in seconds]


ROWS = {
    "step.classification": classification,
    "step.detection": detection,
    "step.segmentation": segmentation,
    "step.audio": audio,
}
