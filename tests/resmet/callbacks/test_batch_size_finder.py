"""The batch size that is found, and the run with it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from small_runs import DATA, Kill, Killed, make_task, train_small
from torch.optim import SGD

from resmet.callbacks import batch_size_finder
from resmet.callbacks.batch_size_finder import FindBatch, Search, most_share, one_batch, repeated, resize, scaled, sizes
from resmet.engine.trainer import make_trainer
from tasks.base import count
from tasks.optim.recipe import Recipe


def found(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """What is fastest here depends on the machine."""
    right = Search.fastest

    def fixed(self: Search, most: float) -> tuple[float, str]:
        right(self, 0.1)  # it must leave no trace
        return share, "the fastest here"

    monkeypatch.setattr(Search, "fastest", fixed)


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def same(first: Path, second: Path) -> None:
    weights, others = last(first)["state_dict"], last(second)["state_dict"]
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()


@pytest.mark.parametrize(("kind", "share"), [("classification", 0.5), ("detection", 2.0)])
def test_a_size_that_was_found_is_as_good_as_given(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bit for bit, with the rate that the recipe's rule gives; a run that is gone on with takes the same."""
    found(monkeypatch, share)
    make, own = DATA[kind], {"classification": 8, "detection": 3}[kind]
    auto = train_small(kind, tmp_path / "auto", batch_size="auto", max_epochs=2)

    def given() -> Any:
        data = make()
        resize(data, scaled(sizes(data), share))
        return data

    recipe = Recipe(base_batch_size=own)
    monkeypatch.setitem(DATA, kind, given)
    same(auto, train_small(kind, tmp_path / "given", recipe=recipe, max_epochs=2))
    monkeypatch.undo()
    found(monkeypatch, share)
    with pytest.raises(Killed):
        train_small(
            kind, tmp_path / "broken", [Kill(step=3)], batch_size="auto", max_epochs=2, checkpoint_every="0.001s"
        )
    monkeypatch.setattr(Search, "fastest", None)  # it is not asked again
    same(auto, train_small(kind, tmp_path / "broken", batch_size="auto", max_epochs=2, resume=True))


def test_the_rates_follow_the_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found(monkeypatch, 4.0)
    recipe = Recipe(optimizer=partial(SGD, lr=0.001))
    train_small("classification", tmp_path / "run", batch_size="auto", max_epochs=1, recipe=recipe, accumulate=2)
    assert last(tmp_path / "run")["lr_schedulers"][0]["base_lrs"][0] == pytest.approx(0.001 * 4 * 2)
    assert last(tmp_path / "run")["position"]["sizes"] == {"": 32}


@pytest.mark.parametrize("kind", ["classification", "joint"])
def test_a_processor_takes_the_fastest(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By measured seconds; of sizes that are as fast the smallest; within the time that it may take."""
    seconds = {2.0: 0.5, 4.0: 0.50, 8.0: 0.55, 16.0: 0.9, 32.0: 1.9}  # by items of the first part
    data = DATA[kind]()
    data.prepare()
    monkeypatch.setattr(batch_size_finder, "FEWEST", 0.01)
    monkeypatch.setattr(batch_size_finder, "timed", lambda trial, batch: seconds[8.0 * count(batch) / data.batch_size])
    task = make_task(kind, data)
    trainer = make_trainer(max_epochs=1, accelerator="cpu", precision="32-true", run_dir=tmp_path, batch_size="auto")
    asked = sizes(data)
    resize(data, dict.fromkeys(asked, 8))
    finder = FindBatch(data, 0)
    finder.setup(trainer, task, "fit")
    assert sizes(data) == dict.fromkeys(asked, 16) == finder.found  # 17.8 items a second at 16, 16.8 at 32
    finder.setup(trainer, task, "fit")
    assert sizes(data) == finder.found


class Card:
    """A card of 1,000 bytes on which a batch takes 100 and 7 an item."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, own: int) -> None:
        self.tried: list[float] = []

        def peak(search: Search, share: float) -> float | None:
            self.tried.append(share)
            used = 100 + 7 * own * share
            return used if used <= 1000 else None

        monkeypatch.setattr(Search, "peak", peak)
        monkeypatch.setattr(batch_size_finder, "card_memory", lambda: 1000.0)


@pytest.mark.parametrize("own", [8, 100, 400])
def test_a_card_takes_the_largest_that_fits(own: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to an eighth, with a margin; from below, and from above where the size asked for does not fit."""
    card = Card(monkeypatch, own)
    search = Search.__new__(Search)
    search.asked, search.most = {"": own}, 1000.0
    share, why = search.largest()
    assert 0.87 * 1000 * 0.85 < 100 + 7 * own * share <= 0.87 * 1000
    assert "leaves no margin" in why
    assert len(card.tried) < 9


def test_a_card_leaves_an_epoch_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch, 8)
    search = Search.__new__(Search)
    search.asked, search.most = {"": 8}, 3.0
    share, why = search.largest()
    assert share == 3.0
    assert "too few steps" in why


@pytest.mark.parametrize("kind", DATA)
def test_items_of_a_batch_make_one_of_any_size(kind: str) -> None:
    """Every task trains on it."""
    data = DATA[kind]()
    data.prepare()
    batch = one_batch(data)
    for part in batch.values() if kind == "joint" else [batch]:
        for wanted in (1, 7):
            made = repeated(part, wanted)
            assert count(made) == wanted == len(made["input"]) == len(made["target"])
    assert sizes(data) == sizes(DATA[kind]())


def test_an_epoch_keeps_its_steps() -> None:
    data = DATA["classification"]()
    data.prepare()
    assert most_share(data, 1) == 1  # 40 items in batches of 8
    data.batch_size = 2
    assert most_share(data, 1) == 2.5
    assert most_share(data, 2) == 1.25


def test_the_search_leaves_random_numbers_alone(tmp_path: Path) -> None:
    data = DATA["classification"]()
    data.prepare()
    task = make_task("classification", data)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = make_trainer(max_epochs=1, accelerator="cpu", precision="32-true", run_dir=tmp_path, batch_size="auto")
    seed_everything(3, verbose=False)
    expected = torch.rand(3)
    seed_everything(3, verbose=False)
    FindBatch(data, 0, 0.1).setup(trainer, task, "fit")
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_memory_that_runs_out_later_still_halves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found(monkeypatch, 2.0)

    def small(self: Any, batch: Any, number: int) -> Any:
        if count(batch) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(self, batch, number)

    right = type(make_task("classification", prepared())).training_step
    monkeypatch.setattr("tasks.classification.Classification.training_step", small)
    train_small("classification", tmp_path / "run", batch_size="auto", max_epochs=1)
    position = last(tmp_path / "run")["position"]
    assert (position["sizes"], position["batch_halvings"]) == ({"": 8}, 1)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 3


def prepared() -> Any:
    data = DATA["classification"]()
    data.prepare()
    return data
