"""Reads what runs leave behind, and compares them."""

import json
from pathlib import Path
from typing import Any

import torch


def read_metrics(folder: Path) -> dict[str, Any]:
    """Returns ``metrics.json``."""
    return json.loads((folder / "metrics.json").read_text())


def read_checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same_weights(first: Path, second: Path, name: str = "last") -> None:
    weights, others = (read_checkpoint(folder, name)["state_dict"] for folder in (first, second))
    assert list(weights) == list(others)
    assert not [key for key, value in weights.items() if not torch.equal(value, others[key])]


def assert_same_runs(first: Path, second: Path) -> None:
    """Weights, optimizer, EMA and metrics are equal, bit for bit."""
    assert_same_weights(first, second)
    one, two = (read_checkpoint(folder) for folder in (first, second))
    assert one["global_step"] == two["global_step"] > 0
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
    assert str(one["callbacks"].get("WeightAveraging")) == str(two["callbacks"].get("WeightAveraging"))
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    results = [read_metrics(folder) for folder in (first, second)]
    assert all(results[0][name] == results[1][name] for name in ("score", "val", "test", "epochs", "steps"))
