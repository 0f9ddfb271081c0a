"""Sounds: what a file says of itself, and what a person should know about all of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, count, frequent
from resmet.data_checks.run.result_cache import Facts

FULL = 0.999  # of full scale: samples at it are taken as cut off
CUT = 0.01  # share of such samples from which a clip sounds distorted
FAINT = 1e-3  # loudness (RMS) of a clip that is as good as silent: -60 dB of full scale
UNEVEN = 20  # times that the longest clip is longer than the usual one


def file_facts(path: Path) -> Facts:
    """What a sound file's header says."""
    facts: Facts = {}
    with contextlib.suppress(OSError, soundfile.SoundFileError, TypeError):
        info = soundfile.info(str(path))
        facts |= {"kind": info.format, "depth": info.subtype, "rate": info.samplerate, "channels": info.channels}
        facts["seconds"] = info.frames / max(1, info.samplerate)
    return facts


def wave_facts(sound: Tensor) -> Facts:
    """Of a decoded sound (C, T) in -1..1: loudness (RMS) where it is not padded, and the share of samples at full scale."""
    heard = sound.abs().amax(0)
    inside = heard[: int(heard.nonzero()[-1]) + 1] if heard.any() else heard
    loudness = float((inside**2).mean().sqrt()) if len(inside) else 0.0
    return {"loudness": loudness, "cut": float((inside >= FULL).float().mean()) if len(inside) else 0.0}


def describe(chart: Chart) -> list[str]:
    """Lengths, rates, channels and kinds of file."""
    facts = [facts for _, _, facts in chart.seen() if "seconds" in facts]
    if not facts:
        return []
    lengths = np.array([f["seconds"] for f in facts])
    said = [
        f"{lengths.min():.2f} to {lengths.max():.2f} s, median {np.median(lengths):.2f} s, {lengths.sum() / 60:.1f} minutes in all"
    ]
    said.append(frequent(f"{f['rate']} Hz" for f in facts))
    said.append(frequent({1: "mono", 2: "stereo"}.get(f["channels"], f"{f['channels']} channels") for f in facts))
    said.append(frequent(f"{f['kind']} {f['depth']}" for f in facts))
    return ["; ".join(said)]


def findings(chart: Chart) -> Iterator[Finding]:
    """Faint and distorted clips, differing rates and channels, uneven lengths."""
    seen = [(chart.shown(item.name), facts) for _, item, facts in chart.seen() if "seconds" in facts]
    faint = tuple(name for name, facts in seen if facts["loudness"] < FAINT)
    if faint:
        yield Finding(
            "warning",
            f"{count(len(faint), 'clip is', 'clips are')} as good as silent (below -60 dB) in the part that is used",
            faint,
            "listen to them; say a longer data.seconds, or remove them",
        )
    cut = tuple(name for name, facts in seen if facts["cut"] > CUT)
    if cut:
        yield Finding(
            "note",
            f"{count(len(cut), 'clip is', 'clips are')} distorted: more than 1 of 100 samples at full scale",
            cut,
        )
    for key, unit, words in (("rate", " Hz", "sample rates"), ("channels", "", "numbers of channels")):
        found = Counter(facts[key] for _, facts in seen)
        if len(found) > 1:
            shown = ", ".join(f"{value}{unit} ({number:,})" for value, number in found.most_common(4))
            usual = found.most_common(1)[0][0]
            odd = tuple(name for name, facts in seen if facts[key] != usual)
            yield Finding(
                "note",
                f"{words} differ: {shown}; all are brought to {'the most frequent' if key == 'rate' else 'one'}",
                odd,
            )
    lengths = np.array([facts["seconds"] for _, facts in seen])
    if len(lengths) and lengths.max() > UNEVEN * np.median(lengths):
        longest = tuple(
            name for (name, _), length in zip(seen, lengths, strict=True) if length > UNEVEN * np.median(lengths)
        )
        yield Finding(
            "warning",
            f"{count(len(longest), 'clip is', 'clips are')} more than {UNEVEN} times as long as the median: only the middle is used",
            longest,
            "cut them into pieces, or say data.seconds=...",
        )
