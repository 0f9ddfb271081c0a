"""Training steps see augmented items; cached features and evaluation do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from small_runs import train_small
from torch import Tensor

from datamodules.loading.collate import PARAMS
from datamodules.transforms.augment import Augment
from resmet.callbacks.lr_finder import LRFinder
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe


class Seen(Callback):
    """Records the input of every item in every epoch."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.steps.append({})

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert PARAMS not in batch
        self.steps[-1] |= {name: x.clone() for name, x in zip(batch["names"], batch["input"], strict=True)}


@pytest.fixture
def augmented(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the number of items of every batch that is augmented from now on."""
    found: list[int] = []
    make = Augment.transform

    def transform(self: Augment, batch: Any, params: Tensor, kind: Any) -> None:
        found.append(len(batch["names"]))
        make(self, batch, params, kind)

    monkeypatch.setattr(Augment, "transform", transform)
    return found


def test_augmentation_starts_once_features_are_no_longer_cached(tmp_path: Path, augmented: list[int]) -> None:
    """Neither cached features nor evaluated items are augmented."""
    seen = Seen()
    train_small(
        "classification", tmp_path / "run", [seen], max_epochs=4, recipe=Recipe(freeze=FreezeSchedule(frozen=0.5))
    )
    first, second, third, fourth = seen.steps
    assert len(first) == 40
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sum(not torch.equal(second[name], third[name]) for name in first) > 30
    assert sum(not torch.equal(third[name], fourth[name]) for name in first) > 30
    assert augmented == [8] * 10  # two epochs of 40 items


def test_the_learning_rate_finder_trains_on_augmented_items(
    tmp_path: Path, augmented: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, tried = LRFinder.run, []

    def watched(self: LRFinder, *arguments: Any) -> Any:
        found = sweep(self, *arguments)
        tried.append((len(augmented), len(found.rates)))
        return found

    monkeypatch.setattr(LRFinder, "run", watched)
    train_small("classification", tmp_path / "run", max_epochs=1, recipe=Recipe(find_lr=True))
    (count, rates) = tried[0]
    assert count == rates > 10
