"""Rows ``compile.*``: what `compile=true` costs in the first step and brings in those after it."""

from __future__ import annotations

from benchmarks.beside import Steps
from benchmarks.ours import STILL, STILL_SOUND, Memory, has, run
from benchmarks.rivals.plain import stepping
from benchmarks.rounds import Absent, Result, Settings, compared

TURN = 2


def classification(settings: Settings) -> Result:
    """House digits at 96 pixels: the compiled step against the same arithmetic, not compiled, in a plain loop."""
    return compiled(("data.size=96", "data.channels=3", *STILL), settings)


def detection(settings: Settings) -> Result:
    """House scenes with boxes, as `compile.classification`."""
    return compiled(("task=detection", "data.count=40", *STILL), settings)


def segmentation(settings: Settings) -> Result:
    """House scenes with masks, as `compile.classification`."""
    return compiled(("task=segmentation", "data.count=40", *STILL), settings)


def audio(settings: Settings) -> Result:
    """House tones, as `compile.classification`."""
    return compiled(("task=audio", "data.count=100", *STILL_SOUND), settings)


def compiled(words: tuple[str, ...], settings: Settings) -> Result:
    if not has("compile"):
        raise Absent("this project has no key compile")
    beside = Steps(stepping, TURN)
    run(
        [*words, "compile=true", "trainer.max_epochs=1"],
        settings.scratch,
        beside,
        Memory(2, TURN * (settings.rounds + 1)),
    )
    found = compared([1000 * x for x in beside.ours], [1000 * x for x in beside.theirs], "ms/step")
    found.notes.append(f"the first {TURN} steps took {beside.first * TURN:.0f} s")
    return found


ROWS = {
    "compile.classification": classification,
    "compile.detection": detection,
    "compile.segmentation": segmentation,
    "compile.audio": audio,
}
