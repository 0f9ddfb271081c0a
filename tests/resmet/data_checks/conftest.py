"""The doctor without a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from resmet.commands.doctor import make_reader, task_inputs
from resmet.data_checks.model.options import DoctorOptions
from resmet.data_checks.run.run import make_report, scan

CONF = Path(__file__).parents[3] / "conf"
Json = dict[str, Any]


@pytest.fixture
def report() -> Callable[..., Json]:
    """The doctor's JSON for a folder; keyword arguments are keys of its reader. No file is written."""

    def call(root: Path, format: str = "", **keys: Any) -> Json:
        overrides = [f"data.{key}={value}" for key, value in keys.items()]
        options = DoctorOptions(str(root), format, overrides, tasks=task_inputs())

        def make(recognized: str, settings: dict[str, Any]) -> Any:
            chosen = [f"root='{root}'", f"data={recognized}", f"data.root='{root}'", *overrides]
            return make_reader(compose("doctor", chosen), recognized, settings)

        with initialize_config_dir(str(CONF), version_base="1.3"):
            return make_report(options, scan(options, make)).to_dict()

    return call
