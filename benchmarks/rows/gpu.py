"""The rows of a GPU: steps against timm's ResNet-50 and against plain loops, and a resumed run. In quick mode they also run on CPU, with small sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measure import Absent, Result, Settings, compare, compare_ms, row, run_python
from benchmarks.resmet_side import NO_AUDIO_AUGMENT, NO_AUGMENT, Interleave, interleave_steps, limit_batches
from benchmarks.rivals.plain import plain_step, timm_resnet50_step


def device_of(settings: Settings) -> str:
    """Returns the device.

    Raises:
        Absent: If there is no GPU, unless in quick mode.
    """
    if torch.cuda.is_available():
        return "cuda"
    if settings.quick:
        return "cpu"
    raise Absent("no GPU; --quick checks on CPU that the row runs")


def gpu_steps(overrides: tuple[str, ...], make_step: Callable, settings: Settings) -> Interleave:
    """Rounds of 20 steps on two batches that are on the device."""
    device, size = device_of(settings), settings.pick(1, 20)
    words = ("trainer.devices=1", *overrides)
    return interleave_steps(words, make_step, size, settings.rounds, settings.scratch, device=device)


@row(
    "gpu.resnet50",
    "timm's resnet50 in a plain loop",
    "ResNet-50 at 224 pixels, 256 a batch, bf16, channels last, compiled, synthetic images on the device. "
    "An A100 trains 2,470 images a second with NVIDIA's recipe.",
)
def resnet50(settings: Settings) -> Result:
    batch_size, compiled = settings.pick(4, 256), not settings.quick
    sizes = (f"data.size={settings.pick(32, 224)}", f"data.batch_size={batch_size}", "data.channels=3", *NO_AUGMENT)
    overrides = ("backbone=resnet50", "recipe/optimizer=sgd", f"compile={compiled}", *sizes)
    clock = gpu_steps(overrides, partial(timm_resnet50_step, compiled=compiled), settings)
    images = batch_size * settings.pick(1, 20)
    notes = [f"our first round {clock.ours[0]:.0f} s", f"compiled: {compiled}"]
    return compare(clock.ours[1:], clock.theirs[1:], "images/s", lambda seconds: images / seconds, notes)


def task_steps(overrides: tuple[str, ...], settings: Settings) -> Result:
    small = ("data.batch_size=2",) if settings.quick else ()
    clock = gpu_steps((*overrides, *small), plain_step, settings)
    return compare_ms(clock.ours[1:], clock.theirs[1:], "ms/step", settings.pick(1, 20))


for task in ("classification", "detection", "segmentation", "audio"):
    row(
        f"gpu.{task}",
        "a plain loop of the same arithmetic",
        f"Steps on synthetic data at default settings against a plain loop of the same arithmetic, task {task}.",
    )(partial(task_steps, (f"task={task}", *(NO_AUDIO_AUGMENT if task == "audio" else NO_AUGMENT))))


@row(
    "gpu.resume",
    "an uninterrupted run",
    "The largest difference of a weight between a run that is stopped and resumed, and one that is not; 0 is bit for bit.",
)
def resume(settings: Settings) -> Result:
    small = (*limit_batches(3), "backbone=resnet20", "data.batch_size=8") if settings.quick else ()
    device_of(settings)
    overrides = ("trainer.devices=1", "trainer.max_epochs=2", "callbacks.visualize=null", *small)
    whole, resumed = settings.scratch / "whole", settings.scratch / "resumed"
    run_python("train.py", *overrides, f"run_dir={whole}")
    stop_at = str(settings.pick(4, 30))
    run_python("-m", "benchmarks.exit_drill", stop_at, "SIGTERM", *overrides, f"run_dir={resumed}", code=143)
    run_python("train.py", f"resume={resumed}")
    paths = [folder / "checkpoints" / "last.ckpt" for folder in (whole, resumed)]
    first, second = (torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in paths)
    return Result(max(float((first[name].float() - second[name].float()).abs().max()) for name in first), "")
