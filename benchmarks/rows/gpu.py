"""The rows of a GPU: steps against timm's ResNet-50 and against plain loops, and a resumed run. In quick mode they also run on CPU, with small sizes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.ab_timing import Absent, Result, Settings, compare, compare_ms
from benchmarks.interleave import StepTimer
from benchmarks.registry import Row
from benchmarks.resmet_side import NO_AUDIO_AUGMENT, NO_AUGMENT, ROOT, Repeat, limit_batches, run_train
from benchmarks.rivals.plain import plain_step, timm_resnet50_step


def trainer(settings: Settings) -> tuple[str, str]:
    """Returns the override for the trainer, and the device.

    Raises:
        Absent: If there is no GPU, unless in quick mode.
    """
    if torch.cuda.is_available():
        return "trainer=gpu", "cuda"
    if settings.quick:
        return "trainer=cpu", "cpu"
    raise Absent("no GPU; --quick checks on CPU that the row runs")


def timed_steps(overrides: tuple[str, ...], make_rival: Callable, settings: Settings) -> StepTimer:
    """Trains on two batches that are on the device, 20 steps a round."""
    choice, device = trainer(settings)
    timer = StepTimer(make_rival, settings.pick(1, 20))
    repeat = Repeat(2, timer.size * (settings.rounds + 1), device)
    run_train([choice, "trainer.max_epochs=1", *overrides], settings.scratch, timer, repeat)
    return timer


def resnet50(settings: Settings) -> Result:
    batch_size, compiled = settings.pick(4, 256), not settings.quick
    sizes = (f"data.size={settings.pick(32, 224)}", f"data.batch_size={batch_size}", "data.channels=3", *NO_AUGMENT)
    overrides = ("backbone=resnet50", "recipe/optimizer=sgd", f"compile={compiled}", *sizes)
    timer = timed_steps(overrides, partial(timm_resnet50_step, compiled=compiled), settings)
    notes = [f"our first {timer.size} steps {timer.first_round:.0f} s", f"compiled: {compiled}"]
    return compare(timer.ours, timer.theirs, "images/s", batch_size, notes)


def task_steps(overrides: tuple[str, ...], settings: Settings) -> Result:
    small = ("data.batch_size=2",) if settings.quick else ()
    timer = timed_steps((*overrides, *small), plain_step, settings)
    return compare_ms(timer.ours, timer.theirs)


def resume(settings: Settings) -> Result:
    small = (*limit_batches(3), "backbone=resnet20", "data.batch_size=8") if settings.quick else ()
    overrides = (trainer(settings)[0], "trainer.max_epochs=2", "callbacks.visualize=null", *small)
    whole, resumed = settings.scratch / "whole", settings.scratch / "resumed"
    stop_at = str(settings.pick(4, 30))
    python(0, "train.py", *overrides, f"run_dir={whole}")
    python(143, "-m", "benchmarks.exit_drill", stop_at, "term", *overrides, f"run_dir={resumed}")
    python(0, "train.py", f"resume={resumed}")
    paths = [folder / "checkpoints" / "last.ckpt" for folder in (whole, resumed)]
    first, second = (torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in paths)
    return Result(max(float((first[name].float() - second[name].float()).abs().max()) for name in first), "")


def python(code: int, *words: str) -> None:
    """Runs a Python process that must exit with `code`."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)} exited with {done.returncode}, not {code}: {done.stderr[-2000:]}")


STEP = "Steps on synthetic data at default settings against a plain loop of the same arithmetic"
TASKS = {
    "classification": NO_AUGMENT,
    "detection": ("task=detection", *NO_AUGMENT),
    "segmentation": ("task=segmentation", *NO_AUGMENT),
    "audio": ("task=audio", *NO_AUDIO_AUGMENT),
}
ROWS = (
    Row(
        "gpu.resnet50",
        "ResNet-50 at 224 pixels, 256 a batch, bf16, channels last, compiled, synthetic images on the device. "
        "An A100 trains 2,470 images a second with NVIDIA's recipe.",
        "timm's resnet50 in a plain loop",
        resnet50,
    ),
    *(
        Row(
            f"gpu.{task}",
            f"{STEP}, task {task}.",
            "a plain loop of the same arithmetic",
            partial(task_steps, overrides),
        )
        for task, overrides in TASKS.items()
    ),
    Row(
        "gpu.resume",
        "The largest difference of a weight between a run that is stopped and resumed, and one that is not; 0 is bit for bit.",
        "an uninterrupted run",
        resume,
    ),
)
