"""Prediction of files with a trained task: JSON Lines and images."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from foundation.structures import Batch, InputError, Prediction, pluralize, require_range
from foundation.targets.base import Resized
from foundation.targets.kinds import TARGETS
from foundation.visualization import plots
from foundation.visualization.overlays import to_pil
from tasks.base import Task

log = logging.getLogger("resmet")


class FileBatches(Protocol):
    """Yields a batch, how each of its images was resized (None where nothing is to undo), and the files before it that can't be read."""

    skipped: int

    def __iter__(self) -> Iterator[tuple[Batch, Any, Any]]: ...

    def original(self, path: Path) -> Tensor: ...


class Predictor:
    """Predicts with a trained task, in every file's own pixels; `part` is a task of a joint one.

    Boxes below the score `threshold`, 0 to 1, are not drawn; the JSON lists all of them.
    """

    def __init__(self, task: Task, part: str | None, threshold: float) -> None:
        names = list(task.spec.parts)
        if names and part not in names:
            message = f"this checkpoint has several tasks: choose one of them with part={' or part='.join(names)}"
            raise InputError("predict.unknown_part", message)
        if part and not names:
            raise InputError("predict.unknown_part", f"part={part}: this checkpoint has a single task, leave part out")
        require_range("threshold", threshold, 0, 1)
        self.task, self.part, self.threshold = task.eval(), part, threshold
        self.spec = task.spec.parts[part] if part else task.spec
        self.kind = TARGETS[self.spec.target]

    def __call__(self, batch: Batch) -> list[Prediction]:
        with torch.inference_mode():
            return self.task({self.part: batch})[self.part] if self.part else self.task(batch)

    def run(self, files: FileBatches, folder: Path, pictures: bool) -> None:
        """Writes ``predictions.jsonl`` (a line per file), ``masks/`` and, if `pictures`, ``pictures/`` into `folder`.

        Raises:
            InputError: After all others are predicted, if files could not be read; each has a line with its error.
        """
        done, errors = 0, []
        with (folder / "predictions.jsonl").open("w") as lines:
            for record in self.records(files, folder, pictures):
                lines.write(json.dumps(record) + "\n")
                errors += [record["error"]] if "error" in record else []
                done += "error" not in record
        left = f", {files.skipped} of other types skipped" if files.skipped else ""
        log.info(f"{pluralize(done, 'file')} predicted{left}: {folder / 'predictions.jsonl'}")
        if errors:
            first = "\n".join(errors[:5])
            message = f"{len(errors)} files could not be read, the others were predicted:\n{first}"
            raise InputError("predict.unreadable_files", message)

    def records(self, files: FileBatches, folder: Path, pictures: bool) -> Iterator[dict[str, Any]]:
        """Yields a record per file, after its images are written."""
        done = 0
        for batch, resized, unreadable in files:
            yield from ({"path": str(path), "error": str(error)} for path, error in unreadable)
            for name, signal, prediction in self.predict(batch, resized):
                image_name = image_name_of(done, name)
                record = {"path": name, **self.kind.to_json(prediction, self.spec.class_names)}
                yield record | self.save_images(prediction, folder, image_name)
                if pictures:
                    self.draw(files, name, signal, prediction, folder / "pictures" / image_name)
                done += 1

    def predict(self, batch: Batch, resized: Iterable[Resized | None]) -> Iterator[tuple[str, Tensor, Prediction]]:
        """Yields every item's name, input and prediction in the file's own pixels, on the CPU."""
        if not batch["names"]:
            return
        for name, signal, prediction, change in zip(batch["names"], batch["input"], self(batch), resized, strict=True):
            prediction = {key: value.cpu() for key, value in prediction.items()}
            yield name, signal, prediction if change is None else self.kind.to_original(prediction, change)

    def save_images(self, prediction: Prediction, folder: Path, name: str) -> dict[str, str]:
        """Writes the parts of a prediction that are images, such as a mask of class numbers, as PNG; returns their paths by key."""
        paths = {}
        for key, image in self.kind.images(prediction).items():
            path = folder / f"{key}s" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image.numpy()).save(path)
            paths[key] = str(path.relative_to(folder))
        return paths

    def draw(self, files: FileBatches, name: str, signal: Tensor, prediction: Prediction, path: Path) -> None:
        """Writes the file with its prediction as PNG: images at their own size, audio as a waveform."""
        path.parent.mkdir(exist_ok=True)
        shown = self.kind.filter_by_score(prediction, self.threshold)
        text = self.kind.describe(shown, self.spec.class_names)
        if self.spec.ndim == 1:
            figure = Figure(figsize=(7, 2.4), layout="constrained")
            plots.show(figure.subplots(), signal, shown, self.spec, f"{Path(name).name}: {text}")
            plots.save(figure, path)
            return
        drawn = plots.draw(files.original(Path(name)), shown, self.spec)
        heading = [(text, (255, 255, 255))] if self.kind.whole_item else self.kind.legend(self.spec)
        to_pil(plots.add_caption(drawn, heading)).save(path)


def image_name_of(number: int, name: str) -> str:
    """Returns a unique file name for the image of `name`: no folder, no control characters, and short enough for any disk."""
    stem = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in Path(name).stem)
    return f"{number:05d}_{stem[:50]}.png"
