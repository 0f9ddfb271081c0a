"""A linear probe, whose epochs after the first train on cached features."""

from __future__ import annotations

from benchmarks.ab_timing import Result, Settings, compare
from benchmarks.interleave import EpochTimer
from benchmarks.registry import Row
from benchmarks.resmet_side import epochs_with_warmup, run_train


def probe_epoch(settings: Settings) -> Result:
    data = ("data=multilabel", f"data.count={settings.pick(32, 300)}", "data.size=128", "data.batch_size=32")
    seconds = []
    for recipe in ("probe", "scratch"):
        timer = EpochTimer(lambda: None)
        run_train([*data, f"recipe={recipe}", *epochs_with_warmup(settings.rounds)], settings.scratch, timer)
        seconds.append(timer.ours[1:])
    return compare(seconds[0], seconds[1], "s/epoch")


ROWS = (
    Row(
        "probe.epoch",
        "300 synthetic images of 128 pixels, ResNet-18: an epoch of `recipe=probe` with cached features against an epoch of "
        "`recipe=scratch`, in two runs.",
        "an epoch of the whole net",
        probe_epoch,
        20.0,
    ),
)
