"""Visits without a process of their own."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.base.datamodule import DataModule
from foundation.structures import InputError
from resmet.assembly import build
from resmet.data_checks.run.run import visit
from resmet.data_checks.run.scan import Order

CONF = Path(__file__).parents[3] / "conf"
Report = dict[str, Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def see(tmp_path: Path) -> Callable[..., Report]:
    """The doctor's JSON for a folder; ``refusal`` is what it leaves with, "" where training can go well."""

    def call(root: Path, format: str = "", **said: Any) -> Report:
        from omegaconf import OmegaConf

        def make(settings: dict[str, Any]) -> DataModule:
            file = CONF / "data" / f"{format or guessed(root)}.yaml"
            own = OmegaConf.merge(OmegaConf.load(file), {"root": str(root), "seed": 0}, settings, said)
            return build(own)

        words = [f"data.{key}={value}" for key, value in said.items()]
        order = Order(str(root), format, words, str(tmp_path / "sheet.png"), str(tmp_path / "report.json"), [str(root)])
        refusal = ""
        with contextlib.suppress(InputError):
            try:
                visit(order, make)
            except InputError as error:
                refusal = str(error)
        return json.loads((tmp_path / "report.json").read_text()) | {"refusal": refusal}

    return call


def guessed(root: Path) -> str:
    from resmet.data_checks.scan.file_tree import read_tree
    from resmet.data_checks.scan.formats import detect

    return detect(root, read_tree(root))[0].format
