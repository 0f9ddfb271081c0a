"""Epochs, steps, overhead, memory and compilation of training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.ab_timing import Result, Settings, compare, compare_ms
from benchmarks.interleave import EpochTimer, StepTimer
from benchmarks.registry import Row
from benchmarks.resmet_side import (
    NO_AUDIO_AUGMENT,
    NO_AUGMENT,
    ROOT,
    Repeat,
    RepeatedLoader,
    epochs_with_warmup,
    load_data,
    precision_of,
    run_train,
)
from benchmarks.rivals.plain import Plain, plain_step
from benchmarks.task_pairs import PAIRS, TORCHVISION, Pair
from resmet.assembly import assemble_task

PLAIN = "a plain loop of the same arithmetic"
LARGE = ("data.size=224", "data.batch_size=32", *NO_AUGMENT)
SMALL = ("backbone=resnet20", "data.size=32", "data.batch_size=32", "data.channels=3", *NO_AUGMENT)
PEAK_STEPS = 6


def epochs(pair: Pair, settings: Settings) -> Result:
    """Compares whole epochs."""
    items = settings.pick(pair.quick_items, pair.items)
    root = pair.root(settings, items, 4)
    return interleaved_epochs(pair.at(root), pair.make_rival(root).epoch, items, settings)


def interleaved_epochs(overrides: tuple[str, ...], rival: Any, items: int, settings: Settings) -> Result:
    """Alternates epochs of the rival and of Resmet; a note has the first epoch of each."""
    timer = EpochTimer(rival)
    run_train([*overrides, *epochs_with_warmup(settings.rounds)], settings.scratch, timer)
    notes = [
        f"first epoch {items / timer.ours[0]:.3g} items/s against {items / timer.theirs[0]:.3g}",
        f"scan of the data {timer.scan_seconds:.1f} s",
    ]
    return compare(timer.ours[1:], timer.theirs[1:], "items/s", items, notes)


def steps(pair: Pair, settings: Settings) -> Result:
    """Compares steps on two batches in memory."""
    root = pair.root(settings, 2 * pair.step_items, 4)
    rival = pair.make_rival(root, *pair.no_augment)
    size = settings.pick(1, pair.round_steps)
    timer = StepTimer(lambda trainer: rival.repeat_steps(2), size)
    overrides = [*pair.at(root), *pair.no_augment, "trainer.max_epochs=1"]
    run_train(overrides, settings.scratch, timer, Repeat(2, size * (settings.rounds + 1)))
    return compare_ms(timer.ours, timer.theirs)


def compiled(overrides: tuple[str, ...], settings: Settings) -> Result:
    """Compares compiled steps with eager steps of a plain loop."""
    timer = StepTimer(plain_step, 2)
    repeat = Repeat(2, 2 * (settings.rounds + 1))
    run_train([*overrides, "compile=true", "trainer.max_epochs=1"], settings.scratch, timer, repeat)
    result = compare_ms(timer.ours, timer.theirs)
    result.notes.append(f"the first 2 steps took {timer.first_round:.0f} s")
    return result


def overhead(overrides: tuple[str, ...], quick: int, full: int, settings: Settings) -> Result:
    """Compares steps of Resmet with those of a plain loop; twice the usual rounds, since the difference is a few percent."""
    size, rounds = settings.pick(quick, full), 2 * settings.rounds
    timer = StepTimer(plain_step, size)
    run_train([*overrides, "trainer.max_epochs=1"], settings.scratch, timer, Repeat(4, size * (rounds + 1)))
    result = compare_ms(timer.ours, timer.theirs)
    result.notes.append(f"overhead {100 * (1 / (result.ratio or 1) - 1):+.1f} %")
    return result


def memory(settings: Settings) -> Result:
    """Compares peak resident memory; each side is a process of its own."""
    peaks: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(settings.pick(1, settings.rounds)):
        for side, values in peaks.items():
            command = [sys.executable, "-m", "benchmarks.rows.training", side, str(settings.scratch)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            values.append(json.loads(done.stdout.splitlines()[-1]))
    return compare(peaks["ours"], peaks["theirs"], "MB")


class PrintPeak(Callback):
    """Prints the peak memory of the training steps above `before`, then exits."""

    def __init__(self, before: float) -> None:
        self.before = before

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == PEAK_STEPS:
            print(json.dumps(resident_mb("VmHWM") - self.before), flush=True)
            os._exit(0)  # validation and report are not measured


def resident_mb(field: str) -> float:
    """Returns a field of /proc/self/status in MB: ``VmRSS`` is current, ``VmHWM`` the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def print_peak(side: str, scratch: str) -> None:
    """Prints the peak memory of one side, above that after the imports, which are the same on both sides."""
    import resmet.callbacks.visualize
    import resmet.engine.report  # noqa: F401

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident_mb("VmRSS")
    repeat = Repeat(4, PEAK_STEPS)
    if side == "ours":
        run_train([*LARGE, "trainer.max_epochs=1"], Path(scratch), PrintPeak(before), repeat)
    cfg, data = load_data(LARGE)
    batches = RepeatedLoader(data.train_dataloader(), repeat)
    plain = Plain(assemble_task(cfg, data.spec), precision_of(cfg), PEAK_STEPS)
    for batch in batches:
        plain.step(batch)
    print(json.dumps(resident_mb("VmHWM") - before))


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


def epoch_row(task: str, text: str) -> Row:
    rival = f"{TORCHVISION}, FasterRCNN at its defaults" if task == "detection" else PAIRS[task].rival
    return Row(f"epoch.{task}", text, rival, partial(epochs, PAIRS[task]), MIN_RATIOS.get(task))


def step_row(task: str, text: str) -> Row:
    pair = PAIRS["detection_alike" if task == "detection" else task]
    return Row(f"step.{task}", text, pair.rival, partial(steps, pair))


def compile_row(task: str, text: str, overrides: tuple[str, ...]) -> Row:
    text = f"{text}: the compiled step against the eager step of a plain loop with the same arithmetic."
    return Row(f"compile.{task}", text, "the same, not compiled", partial(compiled, overrides))


ROWS = (
    *(epoch_row(task, text) for task, text in EPOCHS.items()),
    *(step_row(task, text) for task, text in STEPS.items()),
    Row(
        "overhead.resnet18",
        "ResNet-18 at 224 pixels, 32 a batch: all of `train.py` with its callbacks against a plain loop of the same arithmetic.",
        PLAIN,
        partial(overhead, LARGE, 1, 3),
        1 / 1.03,
    ),
    Row(
        "overhead.resnet20",
        "resnet20 of width 16 at 32 pixels, 32 a batch, as `overhead.resnet18`.",
        PLAIN,
        partial(overhead, SMALL, 5, 20),
        1 / 1.1,
    ),
    Row(
        "memory.resnet18",
        f"Peak resident memory of {PEAK_STEPS} such steps above that after the imports, each side in a process of its own.",
        PLAIN,
        memory,
        1 / 1.05,
    ),
    *(compile_row(task, *entry) for task, entry in COMPILED.items()),
)

if __name__ == "__main__":
    print_peak(*sys.argv[1:])
