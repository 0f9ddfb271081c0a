"""Epochs, steps, overhead, memory and compilation of training."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.measure import Result, Settings, compare, compare_ms, row, run_python
from benchmarks.resmet_side import (
    NO_AUDIO_AUGMENT,
    NO_AUGMENT,
    RepeatedLoader,
    compare_epochs,
    interleave_steps,
    load_data,
    precision_of,
    run_train,
)
from benchmarks.rivals.plain import plain_step, plain_steps
from benchmarks.tasks import PAIRS, Pair
from resmet.assembly import assemble_task

PLAIN = "a plain loop of the same arithmetic"
LARGE = ("data.size=224", "data.batch_size=32", *NO_AUGMENT)
SMALL = ("backbone=resnet20", "data.size=32", "data.batch_size=32", "data.channels=3", *NO_AUGMENT)
PEAK_STEPS = 6
EPOCHS = {
    "classification": "128 images of `clothing`, ResNet-18 at 224 pixels, 32 a batch: `train.py data=image_folder data.size=224`.",
    "detection": "8 images of `bccd`, Faster R-CNN on ResNet-18, 4 a batch: `train.py task=detection data=voc`, each side at its own defaults.",
    "detection_alike": "64 images, and the rival has our image size, widths and numbers of proposals: the effect of the arithmetic alone.",
    "segmentation": "48 crops of `membrane`, U-Net on ResNet-18 at 256 pixels, 4 a batch: `train.py task=segmentation data=mask_folder`.",
    "audio": "256 clips of `fsdd`, ResNet-18 on the waveform, 32 a batch: `train.py task=audio data=audio_csv`.",
}
MIN_RATIOS = {"classification": 2.0, "detection": 2.0, "segmentation": 2.5, "audio": 1.5}
STEPS = {
    "classification": "ResNet-18 at 224 pixels, 32 images a batch: Lightning at our defaults against the tutorial's step.",
    "detection": "Faster R-CNN on ResNet-18, 4 images a batch, same image size and widths: ours against the tutorial's step.",
    "segmentation": "U-Net on ResNet-18 at 256 pixels, 4 images a batch: ours against the step of smp's examples.",
    "audio": "ResNet-18 on the waveform, 32 clips a batch: ours against a tutorial's step.",
}
COMPILED = {
    "classification": ("Digits at 96 pixels", ("data.size=96", "data.channels=3", *NO_AUGMENT)),
    "detection": ("Synthetic scenes with boxes", ("task=detection", "data.count=40", *NO_AUGMENT)),
    "segmentation": ("Synthetic scenes with masks", ("task=segmentation", "data.count=40", *NO_AUGMENT)),
    "audio": ("Synthetic tones", ("task=audio", "data.count=100", *NO_AUDIO_AUGMENT)),
}


def epochs(pair: Pair, settings: Settings) -> Result:
    """Compares whole epochs."""
    items = settings.pick(pair.batch_size, pair.items)
    root = pair.root(settings, items, 4)
    return compare_epochs(pair.at(root), pair.make_rival(root).epoch, items, settings)


def steps(pair: Pair, settings: Settings) -> Result:
    """Compares steps on two batches in memory."""
    root = pair.root(settings, 2 * pair.batch_size, 4)
    rival, size = pair.make_rival(root, pair.no_augment), settings.pick(1, pair.round_steps)
    overrides = (*pair.at(root), *pair.no_augment)
    clock = interleave_steps(overrides, lambda trainer: rival.repeat_steps(2), size, settings.rounds, settings.scratch)
    return compare_ms(clock.ours[1:], clock.theirs[1:], "ms/step", size)


def overhead(overrides: tuple[str, ...], quick: int, full: int, settings: Settings) -> Result:
    """Compares steps of Resmet with those of a plain loop; twice the usual rounds, since the difference is a few percent."""
    size, rounds = settings.pick(quick, full), 2 * settings.rounds
    clock = interleave_steps(overrides, plain_step, size, rounds, settings.scratch, batches=4)
    result = compare_ms(clock.ours[1:], clock.theirs[1:], "ms/step", size)
    result.notes.append(f"overhead {100 * (1 / (result.ratio or 1) - 1):+.1f} %")
    return result


def compiled(overrides: tuple[str, ...], settings: Settings) -> Result:
    """Compares compiled steps with eager steps of a plain loop."""
    clock = interleave_steps((*overrides, "compile=true"), plain_step, 2, settings.rounds, settings.scratch)
    notes = [f"the first 2 steps took {clock.ours[0]:.0f} s"]
    return compare_ms(clock.ours[1:], clock.theirs[1:], "ms/step", 2, notes)


for task, text in EPOCHS.items():
    row(f"epoch.{task}", PAIRS[task].rival, text, min_ratio=MIN_RATIOS.get(task))(partial(epochs, PAIRS[task]))
for task, text in STEPS.items():
    pair = PAIRS["detection_alike" if task == "detection" else task]
    row(f"step.{task}", pair.rival, text)(partial(steps, pair))
row(
    "overhead.resnet18",
    PLAIN,
    "ResNet-18 at 224 pixels, 32 a batch: all of `train.py` with its callbacks against a plain loop of the same arithmetic.",
    min_ratio=1 / 1.03,
)(partial(overhead, LARGE, 1, 3))
row(
    "overhead.resnet20",
    PLAIN,
    "resnet20 of width 16 at 32 pixels, 32 a batch, as `overhead.resnet18`.",
    min_ratio=1 / 1.1,
)(partial(overhead, SMALL, 5, 20))


@row(
    "memory.resnet18",
    PLAIN,
    f"Peak resident memory of {PEAK_STEPS} such steps above that after the imports, each side in a process of its own.",
    min_ratio=1 / 1.05,
)
def memory(settings: Settings) -> Result:
    peaks: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(settings.pick(1, settings.rounds)):
        for side, values in peaks.items():
            output = run_python("-m", "benchmarks.rows.training", side, str(settings.scratch))
            values.append(float(output.splitlines()[-1]))
    return compare(peaks["ours"], peaks["theirs"], "MB")


class PrintPeak(Callback):
    """Prints the peak memory of the training steps above `before`, then exits."""

    def __init__(self, before: float) -> None:
        self.before = before

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == PEAK_STEPS:
            print(resident_mb("VmHWM") - self.before, flush=True)
            os._exit(0)  # validation and report are not measured


def resident_mb(field: str) -> float:
    """Returns a field of /proc/self/status in MB: ``VmRSS`` is current, ``VmHWM`` the peak."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) / 1024


def print_peak(side: str, scratch: str) -> None:
    """Prints the peak memory of one side, above that after the imports, which are the same on both sides."""
    import resmet.callbacks.visualize
    import resmet.engine.report  # noqa: F401

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident_mb("VmRSS")
    repeat = partial(RepeatedLoader, batches=4, steps=PEAK_STEPS)
    if side == "ours":
        run_train([*LARGE, "trainer.max_epochs=1"], Path(scratch), PrintPeak(before), wrap_loader=repeat)
    cfg, data = load_data(LARGE)
    batches = repeat(data.train_dataloader())
    step = plain_steps(assemble_task(cfg, data.spec), precision_of(cfg), PEAK_STEPS)
    for batch in batches:
        step(batch)
    print(resident_mb("VmHWM") - before)


for task, (text, overrides) in COMPILED.items():
    text += ": the compiled step against the eager step of a plain loop with the same arithmetic."
    row(f"compile.{task}", "the same, not compiled", text)(partial(compiled, overrides))

if __name__ == "__main__":
    print_peak(*sys.argv[1:])
