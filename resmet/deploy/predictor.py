"""A checkpoint at work on files: JSON Lines and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from foundation.structures import Batch, InputError, Prediction, pluralize
from foundation.visualization import plots
from tasks.base import Task

log = logging.getLogger("resmet")


class Predictor:
    """Predict with a trained task, in every file's own pixels.

    Args:
        task: From a checkpoint.
        part: Which task of a joint one.
        threshold: Boxes below this score are not drawn, 0 to 1.

    Raises:
        InputError: If `part` is missing, unknown or of no use, or `threshold` is out of range.
    """

    def __init__(self, task: Task, part: str | None, threshold: float) -> None:
        names = list(task.spec.parts)
        if names and part not in names:
            raise InputError(f"this checkpoint does several tasks: say which, part={' or part='.join(names)}")
        if part and not names:
            raise InputError(f"part={part}: this checkpoint does one task only: leave part out")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is a score from 0 to 1, got {threshold}")
        self.task, self.part, self.threshold = task.eval(), part, threshold
        self.spec = task.spec.parts[part] if part else task.spec

    def __call__(self, batch: Batch) -> list[Prediction]:
        with torch.inference_mode():
            return self.task({self.part: batch})[self.part] if self.part else self.task(batch)

    def run(self, files: Any, folder: Path, pictures: bool) -> None:
        """Write ``predictions.jsonl`` (a line a file) and ``pictures/`` into `folder`.

        Raises:
            InputError: After all others were done, if files could not be read; each has a line with its error.
        """
        done, wrong = 0, []
        with (folder / "predictions.jsonl").open("w") as lines:
            for batch, places, errors in files:
                for path, error in errors:
                    wrong.append(error)
                    lines.write(json.dumps({"path": str(path), "error": str(error)}) + "\n")
                for i, answer in enumerate(self(batch) if batch["names"] else []):
                    name = batch["names"][i]
                    answer = self.own_size({key: value.cpu() for key, value in answer.items()}, places[i])
                    record = {"path": name, **self.plain(answer)}
                    if "mask" in answer:
                        mask = self.save_mask(answer["mask"], folder / "masks" / picture_name(done, name))
                        record["mask"] = str(mask.relative_to(folder))
                    lines.write(json.dumps(record) + "\n")
                    if pictures:
                        path = folder / "pictures" / picture_name(done, name)
                        self.draw(files.original, name, batch["input"][i], answer, path)
                    done += 1
        left = f", {files.skipped} of other kinds left out" if files.skipped else ""
        log.info(f"{pluralize(done, 'file')} answered{left}: {folder / 'predictions.jsonl'}")
        if wrong:
            raise InputError(
                f"{len(wrong)} files could not be read, the others were answered:\n" + "\n".join(map(str, wrong[:5]))
            )

    def own_size(self, answer: Prediction, place: Any) -> Prediction:
        """An answer in the file's own pixels."""
        if place is None:
            return answer
        if "boxes" in answer:
            return answer | {"boxes": place.boxes_back(answer["boxes"])}
        return answer | {"mask": place.mask_back(answer["mask"])} if "mask" in answer else answer

    def plain(self, answer: Prediction) -> dict[str, Any]:
        """An answer as plain values for JSON."""
        names = self.spec.class_names
        if "boxes" in answer:
            rows = zip(answer["labels"], answer["scores"], answer["boxes"], strict=True)
            return {
                "objects": [
                    {
                        "class": names[int(label)],
                        "score": round(float(score), 4),
                        "box": [round(float(v), 2) for v in box],
                    }
                    for label, score, box in rows
                ]
            }
        if "mask" in answer:
            counts = torch.bincount(answer["mask"].flatten(), minlength=len(names)) / answer["mask"].numel()
            return {"shares": {name: round(float(share), 4) for name, share in zip(names, counts, strict=True)}}
        odds = {name: round(float(p), 4) for name, p in zip(names, answer["probabilities"], strict=True)}
        chosen = [names[int(i)] for i in answer["labels"]]
        return {
            "classes" if self.spec.target == "labels" else "class": chosen
            if self.spec.target == "labels"
            else chosen[0],
            "probabilities": odds,
        }

    def save_mask(self, mask: Tensor, path: Path) -> Path:
        """A mask as a PNG of class numbers."""
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask.to(torch.uint8).numpy()).save(path)
        return path

    def draw(
        self, original: Callable[[Path], Tensor], name: str, signal: Tensor, answer: Prediction, path: Path
    ) -> None:
        """A picture of the file with its answer: images at their own size, sounds as a waveform."""
        path.parent.mkdir(exist_ok=True)
        words = plots.caption(answer, self.spec)
        if self.spec.ndim == 1:
            figure = Figure(figsize=(7, 2.4), layout="constrained")
            plots.show(figure.subplots(), signal, answer, self.spec, f"{Path(name).name}: {words}")
            plots.save(figure, path)
            return
        image = original(Path(name))
        drawn = plots.draw(image, answer, self.spec, self.threshold)
        if "mask" in answer:
            drawn = plots.banner(drawn, plots.mask_legend(self.spec))
        elif "probabilities" in answer:
            drawn = plots.banner(drawn, [(words, (255, 255, 255))])
        Image.fromarray(drawn.permute(1, 2, 0).numpy()).save(path)


def picture_name(number: int, name: str) -> str:
    """A file name of its own for the picture of `name`: no folder, nothing that steers a terminal, and short enough for any disk."""
    stem = "".join(sign if sign.isprintable() and sign not in '<>:"/\\|?*' else "_" for sign in Path(name).stem)
    return f"{number:05d}_{stem[:50]}.png"
