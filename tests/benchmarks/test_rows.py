"""Every row can be described and measured; the command writes the table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import measure
from benchmarks.measure import Row, Settings, all_rows
from benchmarks.resmet_side import compose_train
from benchmarks.table import cells, document
from benchmarks.tasks import PAIRS

ROOT = Path(__file__).parents[2]


def test_the_document_has_every_row() -> None:
    """docs/performance.md is written from rows that still exist, with their present descriptions."""
    text = (ROOT / "docs" / "performance.md").read_text()
    for name, row in all_rows().items():
        if row.group != "gpu":
            assert f"| {name} | {row.rival} |" in text
            assert f"- `{name}`: {row.description}" in text


@pytest.mark.parametrize("name", ["epoch.classification", "score.detection", "precision.audio"])
def test_an_absent_data_set_is_reported(name: str, tmp_path: Path) -> None:
    row = all_rows()[name]
    assert "absent: no data set" in cells(row, measure(row, Settings(tmp_path, tmp_path, 1, True)))[2]


def test_without_a_gpu_its_rows_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no GPU" in measure(all_rows()["gpu.resnet50"], Settings(tmp_path, tmp_path))["absent"]


@pytest.mark.parametrize("name", PAIRS)
def test_the_overrides_of_a_pair_exist(name: str) -> None:
    compose_train([*PAIRS[name].at(Path("root")), *PAIRS[name].no_augment])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layout.audio", "probe.epoch"])
def test_a_row_is_measured(name: str, tmp_path: Path) -> None:
    result = measure(all_rows()[name], Settings(tmp_path, tmp_path, 1, True))
    assert result["ratio"] > 0, result


@pytest.mark.parametrize(("ratio", "met"), [(2.0, "yes"), (1.9, "no")])
def test_a_target_is_met_from_its_value_on(ratio: float, met: str) -> None:
    result = {"ours": 4 - ratio, "theirs": 1.0, "ratio": ratio, "low": 1.0, "high": 3.0, "rounds": 1, "unit": "s"}
    for target in ({"min_ratio": 2.0}, {"max_value": 2.0}):
        assert cells(Row("a.b", "", "", lambda settings: None, **target), result)[-1] == met


@pytest.mark.slow
def test_the_command_measures_writes_json_and_prints_a_table(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "startup.help", "--quick", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| startup.help |" in done.stdout
    content = json.loads(out.read_text())
    assert content["rows"]["startup.help"]["ours"] > 0
    assert "`startup.help` (quick)" in document(content)
