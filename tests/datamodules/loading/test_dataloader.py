"""Workers that die or hang raise an error, and files that become unreadable follow ``data.on_error``."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from data_factories import set_up
from fixture_files import write_image
from refusals import refused

from datamodules.formats.image_folder import ImageFolder
from datamodules.loading import dataloader


@dataclass(kw_only=True, eq=False, repr=False)
class FailingWorkers(ImageFolder):
    """Images of which one makes a worker process fail."""

    fail: Callable[[], None]
    parent: int = field(default_factory=os.getpid)

    def load(self, item: Any) -> Any:
        if os.getpid() != self.parent and "/light/1" in item.name:
            self.fail()
        return super().load(item)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(600)


@pytest.mark.parametrize(("fail", "message"), [(die, r"DataLoader worker \(pid"), (hang, "DataLoader timed out")])
def test_a_worker_that_dies_or_hangs_raises(
    fail: Callable[[], None], message: str, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataloader, "TIMEOUT", 3.0)
    data = set_up(FailingWorkers(str(image_folder), batch_size=2, size=32, cache="off", num_workers=2, fail=fail))
    with pytest.raises(RuntimeError, match=message):
        list(data.dataloader("train"))
    data.teardown("fit")


def test_workers_give_the_same_batches(image_folder: Path) -> None:
    def batches(num_workers: int) -> list[Any]:
        data = set_up(ImageFolder(str(image_folder), batch_size=2, size=32, cache="off", num_workers=num_workers))
        loader, found = data.dataloader("train"), []
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            found += list(loader)
        return found

    for one, other in zip(batches(0), batches(2), strict=True):
        assert one["names"] == other["names"]
        assert torch.equal(one["input"], other["input"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_becomes_unreadable_stops_or_is_replaced(num_workers: int, image_folder: Path) -> None:
    for on_error in ("stop", "skip"):
        options = {"batch_size": 4, "size": 32, "cache": False, "num_workers": num_workers, "on_error": on_error}
        data = set_up(ImageFolder(str(image_folder), **options))
        size = len(data.datasets["train"])
        path = Path(data.datasets["train"].items[2].name)
        path.write_bytes(b"not an image")
        if on_error == "stop":
            with refused("data.unreadable_item") as error:
                list(data.dataloader("train"))
            assert path.name in str(error.value)
            data.teardown("fit")
        else:
            names = [name for batch in data.dataloader("train") for name in batch["names"]]
            assert len(names) == size
            assert str(path) not in names
            assert [str(path) in message for message in data.skipped] == [True]
        write_image(path, color=40)


def test_unreadable_test_items_are_excluded(image_folder: Path) -> None:
    data = set_up(ImageFolder(str(image_folder), batch_size=2, size=32, cache=False, num_workers=0, on_error="skip"))
    for item in data.datasets["test"].items[:2]:  # a whole batch
        Path(item.name).unlink()
    batches = list(data.dataloader("test"))
    assert [batch["names"] for batch in batches] == [[], [item.name for item in data.datasets["test"].items[2:]]]
    assert len(data.skipped) == 2
