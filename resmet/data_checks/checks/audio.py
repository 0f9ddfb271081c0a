"""Checks of audio: silence, clipping, sample rates, channels, durations."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from resmet.data_checks.model.context import CheckContext, Facts
from resmet.data_checks.model.finding import Finding, found, most_common

FULL_SCALE = 0.999  # samples from here on count as clipped
MAX_CLIPPED = 0.01  # fraction of clipped samples above which a clip is audibly distorted
MIN_RMS = 1e-3  # a clip below it (-60 dB of full scale) is practically silent
MAX_DURATION_RATIO = 20  # of a clip to the median


def header_facts(path: Path) -> Facts:
    """Reads the header of an audio file; nothing if it can't be read."""
    facts: Facts = {}
    with contextlib.suppress(OSError, soundfile.SoundFileError, TypeError):
        info = soundfile.info(str(path))
        facts["file_format"], facts["mode"] = info.format, info.subtype
        facts["sample_rate"], facts["channels"] = info.samplerate, info.channels
        facts["seconds"] = info.frames / max(1, info.samplerate)
    return facts


def waveform_facts(waveform: Tensor) -> Facts:
    """Measures a decoded waveform (C, T) in -1..1, without the silence (padding) at its end."""
    amplitude = waveform.abs().amax(0)
    audible = amplitude.nonzero()
    if not len(audible):
        return {"rms": 0.0, "clipped": 0.0}
    amplitude = amplitude[: int(audible[-1]) + 1]
    return {"rms": float((amplitude**2).mean().sqrt()), "clipped": float((amplitude >= FULL_SCALE).float().mean())}


def describe(context: CheckContext) -> list[str]:
    """Describes durations, sample rates, channels and file formats."""
    facts = [facts for _, _, facts in context.usable if "seconds" in facts]
    if not facts:
        return []
    seconds = np.array([f["seconds"] for f in facts])
    parts = [
        f"{seconds.min():.2f} to {seconds.max():.2f} s, median {np.median(seconds):.2f} s, {seconds.sum() / 60:.1f} minutes in total",
        most_common(f"{f['sample_rate']} Hz" for f in facts),
        most_common({1: "mono", 2: "stereo"}.get(f["channels"], f"{f['channels']} channels") for f in facts),
        most_common(f"{f['file_format']} {f['mode']}" for f in facts),
    ]
    return ["; ".join(parts)]


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds silent and clipped clips, mixed sample rates and channels, and clips of extreme duration."""
    clips = [(context.relative(item.name), facts) for _, item, facts in context.usable if "seconds" in facts]
    silent = (name for name, facts in clips if facts["rms"] < MIN_RMS)
    what = "practically silent (RMS below -60 dB) in the part that is used"
    remedy = "listen to them; use a longer data.seconds, or remove them"
    yield from found("audio.silent", "warning", silent, "clip", what, remedy)
    clipped = (name for name, facts in clips if facts["clipped"] > MAX_CLIPPED)
    what = "distorted by clipping: more than 1 % of the samples at full scale"
    yield from found("audio.clipped", "note", clipped, "clip", what)
    rates = {name: f"{facts['sample_rate']} Hz" for name, facts in clips}
    yield from mixed("audio.mixed_sample_rates", "sample rates", rates, "all are resampled to the most common one")
    channels = {name: str(facts["channels"]) for name, facts in clips}
    yield from mixed("audio.mixed_channels", "numbers of channels", channels, "all are mixed down to mono")
    seconds = {name: facts["seconds"] for name, facts in clips}
    limit = MAX_DURATION_RATIO * float(np.median([*seconds.values()])) if seconds else 0.0
    long = (name for name, duration in seconds.items() if duration > limit)
    what = f"more than {MAX_DURATION_RATIO} times as long as the median: only the middle is used"
    yield from found("audio.long_clips", "warning", long, "clip", what, "cut them into pieces, or set data.seconds")


def mixed(code: str, what: str, values: dict[str, str], consequence: str) -> Iterator[Finding]:
    """Finds clips whose value differs from the most common one."""
    counts = Counter(values.values())
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        where = tuple(name for name, value in values.items() if value != usual)
        yield Finding(code, "note", f"mixed {what}: {most_common(values.values())}; {consequence}", where)
