"""The folder of a sweep."""

from pathlib import Path

import pytest
import yaml

from resmet.sweeps.search_space import Space
from resmet.sweeps.sweep_dir import Request, choose_dir


def test_auto_resume_ignores_unrelated_sweeps_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"words": ["seed=0,1"], "flags": [], "chosen": []}
    for name, content in {"1": yaml.safe_dump(config), "2": "a: [", "3": "- a"}.items():
        (tmp_path / "outputs" / "sweeps" / name).mkdir(parents=True)
        (tmp_path / "outputs" / "sweeps" / name / "sweep.yaml").write_text(content)
    request = Request(Space({}, ()), [], [], run_dir=None, resume="auto")
    assert choose_dir(request, config) == Path("outputs/sweeps/1")
