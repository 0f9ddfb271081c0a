"""Workers that die or hang cost no batch, and files that turn unreadable follow ``data.on_error``."""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_files import write_image

from datamodules.formats.image_folder import ImageFolder
from datamodules.loading import dataloader
from datamodules.loading.dataloader import ItemLoader
from foundation.structures import InputError, RunError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataloader, "POLL", 1.0)
    monkeypatch.setattr(ItemLoader, "patience", 2.0)


class Trouble(ImageFolder):
    """Pictures of which some are trouble to a worker process: `strike` is called on them, once or always."""

    def __init__(self, root: Path, strike: Callable[[], None], marks: Path, once: bool, **more: Any) -> None:
        super().__init__(str(root), batch_size=2, size=32, **more)
        self.strike, self.marks, self.once = strike, marks, once

    def load(self, item: Any) -> Any:
        mark = self.marks / Path(item.name).name
        if os.getpid() != self.parent and "/light/1" in item.name and not (self.once and mark.exists()):
            mark.touch()
            self.strike()
        return super().load(item)

    def prepare(self, *arguments: Any) -> None:
        self.parent = os.getpid()
        self.cache = "off"
        super().prepare(*arguments)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(600)


def drawn(data: Any, num_workers: int) -> list[Any]:
    data.num_workers = num_workers
    data.prepare()
    return [(batch["names"], batch["input"]) for batch in data.dataloader("train")]


def equal(first: list[Any], second: list[Any]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("strike", "said"), [(die, "died: DataLoader worker"), (hang, "hang for 2 s")])
def test_workers_are_replaced_and_named(
    strike: Callable[[], None], said: str, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "resmet")
    logging.getLogger("resmet").propagate = True
    sound = drawn(ImageFolder(str(image_folder), batch_size=2, size=32), 0)
    (tmp_path / "marks").mkdir()
    troubled = drawn(Trouble(image_folder, strike, tmp_path / "marks", once=True), 2)
    assert equal(sound, troubled)
    assert said in caplog.text
    assert "new ones go on with that batch" in caplog.text
    assert ".png" in caplog.text


@pytest.mark.slow
def test_workers_that_always_die_end_the_run(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    with pytest.raises(RunError, match=r"replaced 3 times in this epoch: lower data.num_workers"):
        drawn(Trouble(image_folder, die, tmp_path / "marks", once=False), 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_turns_unreadable_stops_or_is_stood_in_for(num_workers: int, image_folder: Path) -> None:
    for on_error in ("stop", "skip"):
        data = ImageFolder(
            str(image_folder), batch_size=4, size=32, cache=False, num_workers=num_workers, on_error=on_error
        )
        data.prepare()
        size = len(data.datasets["train"])
        path = Path(data.datasets["train"].items[2].name)
        path.write_bytes(b"no picture any more")
        if on_error == "stop":
            with pytest.raises(
                InputError, match=rf"{path.name} can't be read as an image.*mend it and go on.*data.on_error=skip"
            ):
                list(data.dataloader("train"))
        else:
            names = [name for batch in data.dataloader("train") for name in batch["names"]]
            assert len(names) == size
            assert str(path) not in names
            assert [str(path) in message for message in data.unreadable] == [True]
            assert data.skipped == data.unreadable
        write_image(path, color=40)


def test_what_can_not_be_judged_is_left_out(image_folder: Path) -> None:
    data = ImageFolder(str(image_folder), batch_size=2, size=32, cache=False, num_workers=0, on_error="skip")
    data.prepare()
    for item in data.datasets["test"].items[:2]:  # a whole batch
        Path(item.name).unlink()
    batches = list(data.dataloader("test"))
    assert [batch["names"] for batch in batches] == [[], [item.name for item in data.datasets["test"].items[2:]]]
    assert len(data.unreadable) == 2
