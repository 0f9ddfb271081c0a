"""Rows ``epoch.*``: whole epochs, data included, validation excluded."""

from __future__ import annotations

from pathlib import Path

from benchmarks.beside import Epochs
from benchmarks.ours import rounds_of_epochs, run
from benchmarks.pairs import PAIRS, Pair
from benchmarks.rounds import Result, Settings, compared

UNIT = "items/s"


def classification(settings: Settings) -> Result:
    """128 pictures of `clothing`, ResNet-18 at 224 pixels, 32 a batch: `train.py data=image_folder data.size=224`."""
    return whole(PAIRS["classification"], settings)


def detection(settings: Settings) -> Result:
    """8 pictures of `bccd`, Faster R-CNN on ResNet-18, 4 a batch: `train.py task=detection data=voc`, each side at its own defaults."""
    return whole(PAIRS["detection"], settings)


def detection_alike(settings: Settings) -> Result:
    """64 pictures, and the rival has our image size, widths and numbers of proposals: what the arithmetic alone brings."""
    return whole(PAIRS["detection_alike"], settings)


def segmentation(settings: Settings) -> Result:
    """48 cut-outs of `membrane`, U-Net on ResNet-18 at 256 pixels, 4 a batch: `train.py task=segmentation data=mask_folder`."""
    return whole(PAIRS["segmentation"], settings)


def audio(settings: Settings) -> Result:
    """256 clips of `fsdd`, ResNet-18 over the waveform, 32 a batch: `train.py task=audio data=audio_csv`."""
    return whole(PAIRS["audio"], settings)


def whole(pair: Pair, settings: Settings) -> Result:
    """Epochs of both in turn, within one run of ours."""
    items = settings.few(pair.few, pair.items)
    root = pair.root(settings, items, 4)
    rival = pair.make_rival(root)
    return turns(pair.said(root), rival.epoch, items, settings)


def turns(words: tuple[str, ...], rival: object, items: int, settings: Settings) -> Result:
    """One epoch of the rival, one of ours, and so on; the first of each is told apart."""
    beside = Epochs(rival)  # type: ignore[arg-type]
    run([*words, *rounds_of_epochs(settings.rounds)], Path(settings.scratch), beside)
    notes = [
        f"first epoch {items / beside.ours[0]:.3g} {UNIT} against {items / beside.theirs[0]:.3g}",
        f"data read and checked before in {beside.prepared:.1f} s",
    ]
    return compared(beside.ours[1:], beside.theirs[1:], UNIT, items, notes)


ROWS = {
    "epoch.classification": classification,
    "epoch.detection": detection,
    "epoch.detection_alike": detection_alike,
    "epoch.segmentation": segmentation,
    "epoch.audio": audio,
}
