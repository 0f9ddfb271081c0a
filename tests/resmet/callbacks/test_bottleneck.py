"""What a run says that it waits for, and how fast it is."""

import json
import logging
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import train_small

from datamodules.base.dataset import ItemDataset
from datamodules.cache.cache import parse_mode
from resmet.callbacks import bottleneck
from resmet.callbacks.bottleneck import for_data, for_steps
from tasks.classification import Classification


def said(caplog: pytest.LogCaptureFixture) -> str:
    return next(line for line in caplog.text.splitlines() if "the run waits for" in line)


@pytest.mark.parametrize("slow", ["data", "compute"])
def test_what_is_slow_is_said_once(slow: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog) -> None:
    """With the shares of the time, also in metrics.json."""
    caplog.set_level(logging.INFO, "resmet")
    monkeypatch.setattr(bottleneck, "STEPS", 6)
    owner, name = {"data": (ItemDataset, "__getitems__"), "compute": (Classification, "training_step")}[slow]
    right = getattr(owner, name)

    def slowly(*words: Any) -> Any:
        time.sleep(0.15)
        return right(*words)

    monkeypatch.setattr(owner, name, slowly)
    train_small("classification", tmp_path / "run", max_epochs=2)
    assert caplog.text.count("the run waits for") == 1
    assert f"the run waits for {slow}: " in said(caplog)
    shares = json.loads((tmp_path / "run" / "metrics.json").read_text())["waits"]
    assert shares[slow] > 0.6
    assert shares["data"] + shares["compute"] == pytest.approx(1)
    assert ("data.num_workers" in said(caplog)) == (slow == "data" and (os.cpu_count() or 1) > 1)


def part(**more: Any) -> SimpleNamespace:
    loaders = [SimpleNamespace(num_workers=more.pop("num_workers", 64))]
    return SimpleNamespace(**{"cache": "auto", "loaders": loaders, "whole": True, "batch_size": 8} | more)


@pytest.mark.parametrize(
    ("data", "helps"),
    [
        (part(), []),
        (part(cache="off", whole=False), ["data.cache=auto"]),
        (part(cache=parse_mode(False)), ["data.cache=auto"]),
        (part(whole=False), ["data.cache=disk"]),
        (part(whole=False, root="x"), ["data.cache=disk", "pack.py"]),
        (part(cache="disk", whole=False, root="x", nearby=4), []),
        (part(size=640), ["a smaller data.size"]),
        (SimpleNamespace(parts={"a": part(), "b": part(cache="off")}), ["data.cache=auto"]),
    ],
)
def test_only_what_is_not_done_yet_helps_the_data(data: Any, helps: list[str]) -> None:
    assert for_data(data) == helps


def test_workers_help_where_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottleneck, "cores", lambda: 8)
    assert for_data(part(num_workers=0)) == ["data.num_workers=8"]
    assert for_data(part(num_workers=8)) == []
    monkeypatch.setattr(bottleneck, "cores", lambda: 1)
    assert for_data(part(num_workers=0)) == []


@pytest.mark.parametrize(
    ("device", "precision", "config", "helps"),
    [
        ("cpu", "32-true", {}, ["trainer.precision=bf16-mixed"]),
        ("cpu", "bf16-mixed", {}, []),
        ("cuda", "bf16-mixed", {"compile": False}, ["compile=true", "trainer.batch_size=auto"]),
        ("cuda", "bf16-mixed", {"compile": True}, ["trainer.batch_size=auto"]),
    ],
)
def test_only_what_is_not_done_yet_helps_the_step(
    device: str, precision: str, config: dict, helps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bottleneck, "fast_precision", lambda accelerator: "bf16-mixed")
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)), precision=precision, automatic_batch=False
    )
    assert for_steps(trainer, SimpleNamespace(config=config), part()) == helps


@pytest.mark.parametrize(("kind", "word"), [("segmentation", "images"), ("audio", "items")])
def test_an_epoch_says_how_fast_it_was_and_what_is_left(kind: str, word: str, tmp_path: Path, caplog) -> None:
    from resmet.callbacks.progress_bar import Progress

    caplog.set_level(logging.INFO, "resmet")
    train_small(kind, tmp_path / "run", [Progress()])
    lines = re.findall(rf"epoch (\d)/3  loss \S+  score \S+  \S+ {word}/s  \d+\.\d GB  left (\d+):(\d\d)", caplog.text)
    assert [int(epoch) for epoch, *_ in lines] == [1, 2, 3]
    left = [60 * int(minutes) + int(seconds) for _, minutes, seconds in lines]
    assert left == sorted(left, reverse=True)
    assert left[-1] >= 3  # the test and the report are still to come
