"""The files of a run's ``checkpoints`` folder: what they are called, and which of them a run resumes from."""

from __future__ import annotations

from pathlib import Path

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous"


def previous(folder: Path, number: int) -> Path:
    """Returns the path of the `number`-th checkpoint before ``last.ckpt``; 1 is the most recent."""
    return folder / f"{PREVIOUS}-{number}.ckpt"


def candidates(folder: Path) -> list[Path]:
    """Returns the checkpoints in ``checkpoints/`` that a run can resume from, the most recent first."""
    numbers = sorted(int(path.stem.rsplit("-", 1)[1]) for path in folder.glob(f"{PREVIOUS}-[0-9]*.ckpt"))
    return [path for path in (folder / LAST, *(previous(folder, number) for number in numbers)) if path.is_file()]


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has a checkpoint to resume from."""
    return bool(candidates(folder / "checkpoints"))


def resume_hint(folder: Path) -> str:
    """Returns what to do about a run that ended before its last checkpoint was on disk."""
    if has_checkpoint(folder):
        return f"resume={folder}, which repeats what came after the checkpoint that is there"
    return f"start again, since there is no checkpoint at all: the same command with run_dir={folder} resume=auto"
