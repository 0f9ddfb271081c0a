"""The images of a run: training inputs, predictions beside targets, curves and matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.structures import Batch, Prediction, Spec, require_range
from foundation.targets.kinds import TARGETS
from foundation.visualization import plots
from resmet.callbacks.metrics_csv import read_metrics_csv
from resmet.checkpoints.lightning_state import data_of, task_of
from tasks.base import count

SCORE_THRESHOLD = 0.5  # boxes below it would hide the image


class Visualize(Callback):
    """Fills ``pictures/`` of the run folder.

    Args:
        count: Items per image file, at least 1.
    """

    def __init__(self, count: int = 12) -> None:
        require_range("callbacks.visualize.count", count, 1)
        self.count = count
        self.seen: list[tuple[Any, Any]] = []
        self.drawn_inputs: set[bool] = set()

    def folder(self, trainer: Trainer) -> Path:
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(exist_ok=True)
        return folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        task, plain = task_of(pl_module), trainer.current_epoch < data_of(trainer).no_augment_epochs
        if plain in self.drawn_inputs or not trainer.is_global_zero:
            return
        self.drawn_inputs.add(plain)  # drawn again once augmentation starts
        with torch.random.fork_rng(devices=[]):  # the training step mixes the same items again
            batch = batch if plain else task.mix(batch)
        for name, spec in part_specs(task.spec).items():
            part = batch.get(name) if name else batch
            if part is not None:
                pairs = list(zip(range(self.count), targets(part, spec), strict=False))
                cells = [cell(part, i, target, spec, "") for i, target in pairs]
                plots.save(plots.grid(cells, spec), self.folder(trainer) / f"{prefix(name)}inputs.png")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stores the first items with their predictions."""
        stored = sum(count(batch) for batch, _ in self.seen)
        if trainer.state.fn != "fit" and trainer.is_global_zero and stored < self.count:
            present = {name: value for name, value in batch.items() if value is not None}
            with torch.inference_mode():
                self.seen.append((present, pl_module(present)))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" or not trainer.is_global_zero:
            return
        task, folder = task_of(pl_module), self.folder(trainer)
        self.save_predictions(folder, task.spec)
        table = folder.parent / "metrics.csv"
        if table.is_file():
            plots.save(plots.curves(read_metrics_csv(table)), folder / "curves.png")
        for name, spec in part_specs(task.spec).items():
            save_details(task.plot_data.get(name, {}) if name else task.plot_data, spec, folder, prefix(name))
        self.seen = []

    on_test_batch_end, on_test_end = on_validation_batch_end, on_validation_end

    def save_predictions(self, folder: Path, spec: Spec) -> None:
        """Writes predictions beside targets, one image file per part."""
        for name, part_spec in part_specs(spec).items():
            cells: list[Any] = []
            for batch, predictions in self.seen:
                if name in batch or not name:
                    cells += comparison(
                        batch[name] if name else batch, predictions[name] if name else predictions, part_spec
                    )
            limit = self.count if TARGETS[part_spec.target].whole_item else 2 * self.count
            if cells:
                plots.save(plots.grid(cells[:limit], part_spec), folder / f"{prefix(name)}predictions.png")


def part_specs(spec: Spec) -> Mapping[str, Spec]:
    """Returns the Specs of joint data by part name, or the one Spec under an empty name."""
    return spec.parts or {"": spec}


def prefix(name: str) -> str:
    return f"{name}_" if name else ""


def save_details(details: dict[str, Any], spec: Spec, folder: Path, prefix: str) -> None:
    """Writes the confusion matrix and the precision-recall curves that a task has."""
    if "confusion" in details:
        plots.save(plots.confusion(details["confusion"], spec.class_names), folder / f"{prefix}confusion.png")
    if "precision" in details:
        figure = plots.precision_recall(details["precision"], details["recall"], spec.class_names)
        plots.save(figure, folder / f"{prefix}precision_recall.png")


def targets(batch: Batch, spec: Spec) -> list[Prediction]:
    """Returns a batch's targets in the form of predictions."""
    kind = TARGETS[spec.target]
    return [kind.as_prediction(target) for target in kind.split(batch["target"], batch["sizes"])]


def comparison(batch: Batch, predictions: list[Prediction], spec: Spec) -> Iterator[Callable[..., None]]:
    """Yields plots of targets and predictions: one per item where its title can name both, else two side by side."""
    kind = TARGETS[spec.target]
    for i, (truth, prediction) in enumerate(zip(targets(batch, spec), predictions, strict=True)):
        if not kind.whole_item:
            yield cell(batch, i, truth, spec, "true: ")
            yield cell(batch, i, prediction, spec, "predicted: ")
            continue
        right = set(truth["labels"].tolist()) == set(prediction["labels"].tolist())
        wrong = f"\u2717 true: {kind.describe(truth, spec.class_names)}, predicted: "
        yield cell(batch, i, prediction, spec, "\u2713 " if right else wrong)


def cell(batch: Batch, i: int, prediction: Prediction, spec: Spec, prefix: str) -> Callable[..., None]:
    """Returns what plots item `i` of a batch, without padding, with a prediction."""
    kind, axes = TARGETS[spec.target], tuple(slice(0, side) for side in batch["sizes"][i])
    signal = batch["input"][i][(slice(None), *axes)].cpu()
    signal = signal.round().clamp(0, 255).to(torch.uint8) if spec.ndim == 2 else signal
    shown = kind.filter_by_score({key: value.cpu() for key, value in prediction.items()}, SCORE_THRESHOLD)
    title = prefix.rstrip(": ") if kind.legend(spec) else prefix + kind.describe(shown, spec.class_names)
    return partial(plots.show, signal=signal, prediction=shown, spec=spec, title=title)
