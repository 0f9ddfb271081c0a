"""Pictures of a run: what went in, what came out, how it went."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from foundation.structures import Batch, InputError, Prediction, Spec
from foundation.visualization import plots
from resmet.callbacks.metrics_csv import read_rows
from tasks.base import Task, count

WHOLE = ("label", "labels")  # what is said of an item as a whole
SHOWN_SCORE = 0.5  # boxes below it crowd a picture


class Pictures(Callback):
    """Fill ``pictures/`` of the run folder.

    Args:
        count: Items in a picture.

    Raises:
        InputError: If `count` is below 1.
    """

    def __init__(self, count: int = 12) -> None:
        if count < 1:
            raise InputError(f"callbacks.pictures.count must be at least 1, got {count}")
        self.count = count
        self.seen: list[tuple[Any, Any]] = []
        self.inputs_done: set[bool] = set()

    def folder(self, trainer: Trainer) -> Path:
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(exist_ok=True)
        return folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        still = trainer.current_epoch < trainer.datamodule.no_augment_epochs  # type: ignore[attr-defined]
        if still in self.inputs_done or not trainer.is_global_zero:
            return
        self.inputs_done.add(still)  # drawn anew when the items begin to change
        path = self.folder(trainer)
        with torch.random.fork_rng(devices=[]):  # the step mixes the same items again
            batch = batch if still else pl_module.mix(batch)
        for name, part, spec in parts(batch, pl_module.spec):
            cells = [self.cell(part, i, answer, spec, "") for i, answer in enumerate(targets(part)[: self.count])]
            plots.save(plots.sheet(cells, spec), path / f"{name}inputs.png")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.keep(trainer, pl_module, batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn != "fit":
            self.keep(trainer, pl_module, batch)

    def keep(self, trainer: Trainer, task: Task, batch: Any) -> None:
        """Remember the first items and what was said of them."""
        if sum(count(batch) for batch, _ in self.seen) < self.count and trainer.is_global_zero:
            present = {k: v for k, v in batch.items() if v is not None}
            with torch.inference_mode():
                self.seen.append((present, task(present)))

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.finish(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            self.finish(trainer, pl_module)

    def finish(self, trainer: Trainer, task: Task) -> None:
        if not trainer.is_global_zero:
            return
        folder = self.folder(trainer)
        self.compare(folder, task.spec)
        table = folder.parent / "metrics.csv"
        if table.is_file():
            plots.save(plots.curves(read_rows(table)), folder / "curves.png")
        joint = {
            f"{name}_": (task.curves[name], task.spec.parts[name]) for name in task.spec.parts if name in task.curves
        }
        found = joint or {"": (task.curves, task.spec)}
        for name, (details, spec) in found.items():
            if "confusion" in details:
                plots.save(plots.confusion(details["confusion"], spec.class_names), folder / f"{name}confusion.png")
            if "precision" in details:
                figure = plots.precision_recall(details["precision"], details["recall"], spec.class_names)
                plots.save(figure, folder / f"{name}precision_recall.png")
        self.seen = []

    def compare(self, folder: Path, spec: Spec) -> None:
        """Truth and prediction side by side."""
        cells: dict[str, list[Any]] = {}
        specs = {f"{name}_": part for name, part in spec.parts.items()} or {"": spec}
        for batch, predictions in self.seen:
            for name, part, own in parts(batch, spec):
                said = predictions[name[:-1]] if name else predictions
                for i, (truth, prediction) in enumerate(zip(targets(part), said, strict=True)):
                    drawn = cells.setdefault(name, [])
                    if own.target in WHOLE:  # the same item twice would say nothing
                        right = set(truth["labels"].tolist()) == set(prediction["labels"].tolist())
                        wrong = f"\u2717 true: {plots.caption(truth, own)}, predicted: "
                        drawn.append(self.cell(part, i, prediction, own, "\u2713 " if right else wrong))
                    else:
                        drawn.append(self.cell(part, i, truth, own, "true: "))
                        drawn.append(self.cell(part, i, prediction, own, "predicted: "))
        for name, drawn in cells.items():
            most = self.count * (1 if specs[name].target in WHOLE else 2)
            plots.save(plots.sheet(drawn[:most], specs[name]), folder / f"{name}predictions.png")

    def cell(self, batch: Batch, i: int, answer: Prediction, spec: Spec, word: str) -> Any:
        axes = tuple(slice(0, side) for side in batch["sizes"][i])
        signal = batch["input"][i][(slice(None), *axes)].cpu()
        signal = signal.round().clamp(0, 255).to(torch.uint8) if spec.ndim == 2 else signal
        answer = {key: value.cpu() for key, value in answer.items()}
        if "scores" in answer:
            keep = answer["scores"] >= SHOWN_SCORE
            answer = {key: value[keep] for key, value in answer.items()}
        title = word.rstrip(": ") if "mask" in answer else word + plots.caption(answer, spec)
        return partial(plots.show, signal=signal, answer=answer, spec=spec, title=title)


def parts(batch: Any, spec: Spec) -> Iterator[tuple[str, Batch, Spec]]:
    """A batch and its Spec, or each part's with ``name_`` before it."""
    if not spec.parts:
        yield "", batch, spec
    for name in spec.parts:
        if batch.get(name) is not None:
            yield f"{name}_", batch[name], spec.parts[name]


def targets(batch: Batch) -> list[Prediction]:
    """Targets in the form of predictions."""
    target, sizes = batch["target"], batch["sizes"]
    if isinstance(target, list):
        return target
    if target.ndim == 1:
        return [{"labels": label.reshape(1)} for label in target]
    if target.ndim == 2:
        shares = {"probabilities": target.float()} if target.is_floating_point() else {}  # mixed items
        return [
            {"labels": row.nonzero().flatten(), **{k: v[i] for k, v in shares.items()}} for i, row in enumerate(target)
        ]
    return [{"mask": mask[: size[0], : size[1]]} for mask, size in zip(target, sizes, strict=True)]
