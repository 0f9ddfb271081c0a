"""Checks of video clips: sizes, durations, frame rates. There is no video task yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.error import FFmpegError

from resmet.data_checks.checks.images import describe_sizes
from resmet.data_checks.model.context import CheckContext, Facts
from resmet.data_checks.model.finding import Finding, found, most_common
from resmet.data_checks.scan.video_clips import CONTAINERS


def header_facts(path: Path) -> Facts:
    """Reads codec, number of frames, frame rate and size of the first video stream; nothing if it can't be read."""
    try:
        with av.open(str(path), options=CONTAINERS) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            return {
                "codec": f"{context.name} {context.pix_fmt}",
                "frames": stream.frames or sum(1 for packet in container.demux(stream) if packet.size),
                "frame_rate": round(float(stream.average_rate or 0), 2),
                "size": (context.width, context.height),
            }
    except (FFmpegError, OSError, IndexError):
        return {}


def describe(context: CheckContext) -> list[str]:
    """Describes frames, frame rates, codecs and sizes."""
    clips = [facts for _, _, facts in context.usable if "frames" in facts]
    if not clips:
        return []
    frames, rates = sorted(facts["frames"] for facts in clips), sorted(facts["frame_rate"] for facts in clips)
    return [
        f"{frames[0]} to {frames[-1]} frames per clip, {rates[0]:g} to {rates[-1]:g} frames per second; "
        f"{most_common(facts['codec'] for facts in clips)}; {describe_sizes([facts['size'] for facts in clips])}"
    ]


def check(context: CheckContext) -> Iterator[Finding]:
    """Reports that there is no task, odd sides, and clips that differ in duration, frame rate or size."""
    if context.modality != "video":
        return
    yield Finding("videos.no_task", "error", "there is no video task yet: these clips can be checked, not trained on")
    clips = [(context.relative(item.name), facts) for _, item, facts in context.usable if "frames" in facts]
    sizes = [(name, *facts["size"]) for name, facts in clips]
    odd = (f"{name} ({width}x{height})" for name, width, height in sizes if width % 2 or height % 2)
    what = "with an odd number of pixels per side, which some encoders reject"
    yield from found("videos.odd_size", "note", odd, "clip", what)
    numbers = {
        "durations": len({facts["frames"] for _, facts in clips}),
        "frame rates": len({facts["frame_rate"] for _, facts in clips}),
        "frame sizes": len({facts["size"] for _, facts in clips}),
    }
    if mixed := [f"{number} {what}" for what, number in numbers.items() if number > 1]:
        yield Finding("videos.mixed_properties", "note", f"clips differ: {', '.join(mixed)}")
