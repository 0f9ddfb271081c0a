"""The automatic batch size, and runs with it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from refusals import refused
from run_files import assert_same_runs, read_checkpoint
from small_runs import DATA, Kill, Killed, make_task, train_small
from torch.optim import SGD

from foundation.durations import Clock
from foundation.parallel import collectives
from resmet.callbacks import batch_size_finder
from resmet.callbacks.batch_size_finder import BatchSizeFinder, BatchSizeSearch, first_batch, max_scale, repeated
from resmet.callbacks.dry_run import DryRun
from resmet.engine.trainer import TrainerConfig
from tasks.base import count
from tasks.optim.recipe import Recipe


def fix_scale(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Replaces the result of the search, which depends on the machine; it still runs, and must leave no trace."""
    search = BatchSizeSearch.fastest

    def fixed(self: BatchSizeSearch, clock: Clock) -> tuple[float, str]:
        search(self, clock)
        return scale, "fixed"

    monkeypatch.setattr(BatchSizeSearch, "fastest", fixed)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "scale"), [("classification", 0.5), ("detection", 2.0)])
def test_a_found_batch_size_equals_a_configured_one(
    kind: str, scale: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bit for bit, with the learning rate of the recipe's rule; a resumed run has the same."""
    fix_scale(monkeypatch, scale)
    own = DATA[kind]().batch_size
    auto = train_small(kind, tmp_path / "auto", batch_size="auto", max_epochs=2)
    monkeypatch.setitem(DATA, kind, partial(DATA[kind], batch_size=round(own * scale)))
    assert_same_runs(auto, train_small(kind, tmp_path / "given", recipe=Recipe(base_batch_size=own), max_epochs=2))
    monkeypatch.undo()
    fix_scale(monkeypatch, scale)
    options: dict[str, Any] = {"batch_size": "auto", "max_epochs": 2}
    with pytest.raises(Killed):
        train_small(kind, tmp_path / "broken", [Kill(step=3)], checkpoint_every="0.001s", **options)
    monkeypatch.setattr(BatchSizeSearch, "fastest", None)  # a resumed run does not search
    assert_same_runs(auto, train_small(kind, tmp_path / "broken", resume=True, **options))


@pytest.mark.slow
def test_learning_rates_scale_with_the_found_batch_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fix_scale(monkeypatch, 4.0)
    recipe, options = (
        Recipe(partial(SGD, lr=0.001)),
        {"batch_size": "auto", "max_epochs": 1, "accumulate_grad_batches": 2},
    )
    train_small("classification", tmp_path / "run", recipe=recipe, **options)
    assert read_checkpoint(tmp_path / "run")["lr_schedulers"][0]["base_lrs"][0] == pytest.approx(0.001 * 4 * 2)
    assert read_checkpoint(tmp_path / "run")["run_state"]["batch_sizes"] == {"": 32}


class Machine(Clock):
    """A CPU on which a step takes given seconds by scale, beyond which it takes a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[float, float]) -> None:
        super().__init__()
        self.time, self.scales = 0.0, []
        monkeypatch.setattr(BatchSizeSearch, "batch_of", lambda search, scale: scale)

        def train(dry_run: DryRun, scale: Any) -> None:
            self.scales.append(scale)
            self.time += seconds.get(scale, 60.0)

        monkeypatch.setattr(DryRun, "train", train)

    def now(self) -> float:
        return self.time


def search(kind: str, folder: Path) -> BatchSizeSearch:
    data = DATA[kind]()
    data.setup("fit")
    trainer = TrainerConfig(1, "cpu", precision="32-true").build(folder)
    return BatchSizeSearch(trainer, make_task(kind, data), data)


@pytest.mark.parametrize("kind", ["classification", "joint"])
def test_a_cpu_doubles_as_long_as_that_is_faster(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By measured seconds: 1 item per second and part, then 1.8, 3.3, and no more than that."""
    monkeypatch.setattr(batch_size_finder, "MIN_STEPS", 0.01)
    machine = Machine(monkeypatch, {1.0: 1.0, 2.0: 1.1, 4.0: 1.2, 8.0: 2.35, 16.0: 2.0})
    scale, _ = search(kind, tmp_path).fastest(machine)
    assert scale == 4.0
    assert set(machine.scales) == {1.0, 2.0, 4.0, 8.0}


def test_a_cpu_leaves_an_epoch_its_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, {1.0: 1.0, 2.0: 1.0})
    search("classification", tmp_path).fastest(machine)  # 5 batches an epoch
    assert set(machine.scales) == {1.0}


def on_gpu(monkeypatch: pytest.MonkeyPatch, items: int, max_scale: float = 1000.0) -> tuple[BatchSizeSearch, list]:
    """Returns a search on a GPU with memory for 110 items, from a configured batch size of `items`, and the scales that it tries."""
    search, scales = BatchSizeSearch.__new__(BatchSizeSearch), []
    search.sizes, search.max_scale = {"": items}, max_scale
    monkeypatch.setattr(BatchSizeSearch, "fits", lambda self, scale: scales.append(scale) or items * scale <= 110)
    return search, scales


@pytest.mark.parametrize("items", [8, 100, 400])
def test_a_gpu_takes_the_largest_that_fits(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within an eighth; from below, and from above where the configured size does not fit."""
    search, scales = on_gpu(monkeypatch, items)
    scale, _ = search.largest()
    assert 110 / 1.125 < items * scale <= 110
    assert len(scales) < 9


def test_ranks_do_not_wait_for_one_that_runs_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    search = BatchSizeSearch.__new__(BatchSizeSearch)
    sizes: list[int] = []
    for name, value in {"empty_cache": None, "reset_peak_memory_stats": None, "memory_reserved": 0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 100))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 50)
    monkeypatch.setattr(collectives, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_size_finder, "reduce_over_ranks", lambda values, op: list(values))
    monkeypatch.setattr(BatchSizeSearch, "train_twice", lambda self, scale: sizes.append(collectives.world_size()))
    assert search.fits(1.0)
    assert sizes == [1]


def test_a_gpu_leaves_an_epoch_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    search, _ = on_gpu(monkeypatch, 8, max_scale=3.0)
    assert search.largest()[0] == 3.0


def test_an_item_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    search, _ = on_gpu(monkeypatch, 8)
    monkeypatch.setattr(BatchSizeSearch, "fits", lambda self, scale: False)
    with refused("trainer.out_of_memory"):
        search.largest()


@pytest.mark.parametrize("kind", DATA)
def test_a_batch_is_repeated_to_any_size(kind: str) -> None:
    data = DATA[kind]()
    data.setup("fit")
    batch = first_batch(data)
    for part in batch.values() if kind == "joint" else [batch]:
        for size in (1, 7):
            resized = repeated(part, size)
            assert count(resized) == size == len(resized["input"]) == len(resized["target"])


def test_the_largest_scale_leaves_an_epoch_its_steps() -> None:
    data = DATA["classification"]()
    data.setup("fit")
    assert max_scale(data, 1) == 1  # 40 items in batches of 8
    data.run_state.resize_batches({"": 2})
    assert max_scale(data, 1) == 2.5
    assert max_scale(data, 2) == 1.25


def test_the_search_leaves_random_state_and_weights_alone(tmp_path: Path) -> None:
    data = DATA["classification"]()
    data.setup("fit")
    task = make_task("classification", data)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = TrainerConfig(1, "cpu", precision="32-true").build(tmp_path)
    trainer.datamodule = data
    seed_everything(3, verbose=False)
    expected = torch.rand(3)
    seed_everything(3, verbose=False)
    BatchSizeFinder().setup(trainer, task, "fit")
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
