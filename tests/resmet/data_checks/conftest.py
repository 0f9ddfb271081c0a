"""The doctor without a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from foundation.structures import InputError
from resmet.commands.doctor import make_reader
from resmet.data_checks.model.options import DoctorOptions
from resmet.data_checks.run.run import examine

CONF = Path(__file__).parents[3] / "conf"
Report = dict[str, Any]


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Report]:
    """The doctor's JSON for a folder; ``error`` is the code that it exits with, "" if training can succeed."""

    def call(root: Path, format: str = "", **keys: Any) -> Report:
        overrides = [f"data.{key}={value}" for key, value in keys.items()]
        options = DoctorOptions(
            str(root), format, overrides, str(tmp_path / "sheet.png"), str(tmp_path / "report.json")
        )

        def make(recognized: str, settings: dict[str, Any]) -> Any:
            chosen = [f"root='{root}'", f"data={recognized}", f"data.root='{root}'", *overrides]
            return make_reader(compose("doctor", chosen), recognized, settings)

        error = ""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            try:
                examine(options, make)
            except InputError as refusal:
                error = refusal.code
        return json.loads((tmp_path / "report.json").read_text()) | {"error": error}

    return call
