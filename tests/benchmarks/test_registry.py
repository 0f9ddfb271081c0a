"""Every row can be selected and described; a row is measured by the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ab_timing import Settings
from benchmarks.registry import ON_DEMAND, Row, all_rows, select
from benchmarks.resmet_side import compose_train
from benchmarks.run_row import measure
from benchmarks.table import cells, document
from benchmarks.task_pairs import PAIRS

ROOT = Path(__file__).parents[2]


def test_the_document_has_every_row() -> None:
    """docs/performance.md is written from rows that still exist, with their present descriptions."""
    text = (ROOT / "docs" / "performance.md").read_text()
    for name, row in all_rows().items():
        if row.group != "gpu":
            assert f"| {name} | {row.rival} |" in text
            assert f"- `{name}`: {row.description}" in text


def test_groups_on_demand_run_only_if_named() -> None:
    assert not any(row.group in ON_DEMAND for row in select([]))
    assert {row.group for row in select(["score", "startup.help"])} == {"score", "startup"}


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"epoch\.clasification"):
        select(["epoch.clasification"])


@pytest.mark.parametrize("name", [row.name for row in all_rows().values() if row.group in ("epoch", "score")])
def test_an_absent_data_set_is_reported(name: str, tmp_path: Path) -> None:
    row = all_rows()[name]
    if name == "epoch.photographs":
        return  # generates its data
    result = measure(row, Settings(tmp_path, tmp_path, 1, True))
    assert "absent: no data set" in cells(row, result)[2]


@pytest.mark.parametrize("name", PAIRS)
def test_the_overrides_of_a_pair_exist(name: str) -> None:
    pair = PAIRS[name]
    compose_train([*pair.at(Path("root")), *pair.no_augment])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layout.audio", "probe.epoch"])
def test_a_row_is_measured(name: str, tmp_path: Path) -> None:
    result = measure(all_rows()[name], Settings(tmp_path, tmp_path, 1, True))
    assert result["ratio"] > 0, result


@pytest.mark.parametrize(("ratio", "met"), [(2.0, True), (1.9, False)])
def test_a_target_is_met_from_its_ratio_on(ratio: float, met: bool) -> None:
    assert Row("a.b", "", "", lambda settings: None, 2.0).met({"ratio": ratio}) is met
    assert Row("a.b", "", "", lambda settings: None, max_value=ratio - 0.5).met({"ours": 1.45}) is met


@pytest.mark.slow
def test_the_command_measures_writes_json_and_prints_a_table(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "startup.help", "--quick", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "startup.help" in done.stdout
    content = json.loads(out.read_text())
    assert 0 < content["rows"]["startup.help"]["ours"] < 60
    assert "`startup.help` (quick)" in document(content)


def test_without_a_gpu_its_rows_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no GPU" in measure(all_rows()["gpu.resnet50"], Settings(tmp_path, tmp_path))["absent"]
