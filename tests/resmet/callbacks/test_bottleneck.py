"""Whether a run is bound by data or by compute, and its speed in the log."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_clock import FakeClock, train_timed
from run_files import read_metrics
from small_runs import train_small

from datamodules.base.dataset import ItemDataset
from resmet.callbacks import bottleneck, step_timer
from resmet.callbacks.bottleneck import faster_data, faster_steps
from resmet.callbacks.progress_bar import RunProgressBar


@pytest.mark.parametrize("slow", ["data", "compute"])
def test_the_bottleneck_is_reported_once(
    slow: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log and in metrics.json: loading a batch takes three seconds and a step one, or vice versa."""
    caplog.set_level(logging.INFO, "resmet")
    monkeypatch.setattr(step_timer, "STEPS", 6)
    clock = FakeClock(batch={"data": 1.0, "compute": 3.0}[slow])
    load = ItemDataset.__getitems__

    def timed(self: ItemDataset, draws: Any) -> Any:
        clock.time += {"data": 3.0, "compute": 1.0}[slow]
        return load(self, draws)

    monkeypatch.setattr(ItemDataset, "__getitems__", timed)
    train_timed("classification", tmp_path / "run", clock, max_epochs=2)
    assert caplog.text.count(f"{slow}-bound") == 1
    assert caplog.text.count("-bound") == 1
    fractions = read_metrics(tmp_path / "run")["waits"]
    assert fractions[slow] == pytest.approx(0.75, abs=0.01)
    assert sum(fractions.values()) == pytest.approx(1)


def data(*parts: dict[str, Any]) -> Any:
    usual = {"cache_mode": "auto", "loaders": [SimpleNamespace(num_workers=64)], "in_memory": True, "can_pack": False}
    return SimpleNamespace(parts={str(i): SimpleNamespace(**usual | part) for i, part in enumerate(parts)})


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ([{}], []),
        ([{"cache_mode": "off", "in_memory": False}], ["data.cache=auto"]),
        ([{"in_memory": False}], ["data.cache=disk"]),
        ([{"in_memory": False, "can_pack": True}], ["data.cache=disk", "pack"]),
        ([{"cache_mode": "disk", "in_memory": False}], []),
        ([{}, {"cache_mode": "off"}], ["data.cache=auto"]),
    ],
)
def test_advice_for_loading_names_only_options_that_are_not_in_use(parts: list[dict], options: list[str]) -> None:
    found = faster_data(data(*parts))
    assert len(found) == len(options)
    assert all(option in text for option, text in zip(options, found, strict=True))


def test_more_workers_are_advised_only_where_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    none, eight = ({"loaders": [SimpleNamespace(num_workers=number)]} for number in (0, 8))
    monkeypatch.setattr(bottleneck, "cores", lambda: 8)
    assert faster_data(data(none)) == ["data.num_workers=8"]
    assert faster_data(data(eight)) == []
    monkeypatch.setattr(bottleneck, "cores", lambda: 1)
    assert faster_data(data(none)) == []


@pytest.mark.parametrize(
    ("device", "precision", "config", "options"),
    [
        ("cpu", "32-true", {}, ["trainer.precision=bf16-mixed"]),
        ("cpu", "bf16-mixed", {}, []),
        ("cuda", "bf16-mixed", {"compile": False}, ["compile=true", "trainer.batch_size=auto"]),
        ("cuda", "bf16-mixed", {"compile": True}, ["trainer.batch_size=auto"]),
    ],
)
def test_advice_for_steps_names_only_options_that_are_not_in_use(
    device: str, precision: str, config: dict, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bottleneck, "fast_precision", lambda accelerator: "bf16-mixed")
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(strategy=strategy, precision=precision, callbacks=[])
    assert faster_steps(trainer, SimpleNamespace(config=config)) == options


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "unit"), [("segmentation", "images"), ("audio", "items")])
def test_every_epoch_logs_throughput_memory_and_the_time_left(
    kind: str, unit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resmet")
    train_small(kind, tmp_path / "run", [RunProgressBar()], clock=FakeClock())
    lines = re.findall(rf"epoch (\d)/3  .* {unit}/s  \d+\.\d GB  left (\d+):(\d\d)", caplog.text)
    assert [int(epoch) for epoch, *_ in lines] == [1, 2, 3]
    left = [60 * int(minutes) + int(seconds) for _, minutes, seconds in lines]
    assert left == sorted(left, reverse=True)
    assert left[-1] >= 3  # test and report are still to come
