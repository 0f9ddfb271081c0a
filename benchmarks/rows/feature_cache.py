"""A linear probe, whose epochs after the first train on cached features."""

from benchmarks.measure import Result, Settings, compare, row
from benchmarks.resmet_side import Interleave, epochs_with_warmup, run_train


@row(
    "probe.epoch",
    "an epoch of the whole net",
    "300 synthetic images of 128 pixels, ResNet-18: an epoch of `recipe=probe` with cached features against an epoch of "
    "`recipe=scratch`, in two runs.",
    min_ratio=20.0,
)
def probe_epoch(settings: Settings) -> Result:
    data = ("data=multilabel", f"data.count={settings.pick(32, 300)}", "data.size=128", "data.batch_size=32")
    clocks = [Interleave(lambda trainer: lambda: None) for _ in range(2)]
    for recipe, clock in zip(("probe", "scratch"), clocks, strict=True):
        run_train([*data, f"recipe={recipe}", *epochs_with_warmup(settings.rounds)], settings.scratch, clock)
    return compare(clocks[0].ours[1:], clocks[1].ours[1:], "s/epoch")
