"""Where checkpoints are in a run folder."""

from __future__ import annotations

from pathlib import Path


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has a checkpoint to resume from."""
    return any((folder / "checkpoints").glob("last.ckpt")) or any((folder / "checkpoints").glob("previous-*.ckpt"))


def resume_hint(folder: Path) -> str:
    """Returns what to do about a run that ended before its last checkpoint was on disk."""
    if has_checkpoint(folder):
        return f"resume={folder}, which repeats what came after the checkpoint that is there"
    return f"start again, since there is no checkpoint at all: the same command with run_dir={folder} resume=auto"
