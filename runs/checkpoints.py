"""Checkpoints that are written whole or not at all, and read without running anybody's code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO


class WholeFiles(TorchCheckpointIO):
    """Write beside the target, sync to disk, then rename: a full disk or a kill leaves the previous file as it was.

    Lightning's own writer goes through the system's temporary folder and copies, which can destroy both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def checkpoint_callbacks(folder: Path) -> list[ModelCheckpoint]:
    """``best.ckpt`` (weights of the best score) and ``last.ckpt`` (everything, to go on from the end of any epoch)."""
    shared: dict[str, Any] = {
        "dirpath": folder / "checkpoints",
        "auto_insert_metric_name": False,
        "enable_version_counter": False,
    }
    best = ModelCheckpoint(filename="best", monitor="val/score", mode="max", save_weights_only=True, **shared)
    last = ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True, **shared)
    return [best, last]
