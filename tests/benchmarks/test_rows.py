"""Every row is measured somewhere, says what it compares, and can be asked for; one of them runs."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.rounds import Settings
from benchmarks.row import measure
from benchmarks.rows import ROWS, SLOW, Row, chosen
from benchmarks.table import cells, document

ROOT = Path(__file__).parents[2]
MODULES = sorted({row.module for row in ROWS})


def call(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("module", MODULES)
def test_rows_and_their_functions_agree(module: str) -> None:
    functions = import_module(f"benchmarks.{module}").ROWS
    assert sorted(functions) == sorted(row.name for row in ROWS if row.module == module)
    assert all(function.__doc__ for function in functions.values())


def test_slow_groups_run_only_where_they_are_named() -> None:
    assert not any(row.group in SLOW for row in chosen([]))
    assert {row.group for row in chosen(["score", "startup.help"])} == {"score", "startup"}


def test_a_row_that_is_none_is_refused() -> None:
    done = call("benchmarks", "epoch.clasification")
    assert done.returncode == 2
    assert "no row or group epoch.clasification" in done.stderr


def test_data_that_is_not_there_is_said_in_the_table(tmp_path: Path) -> None:
    found = measure("epoch.audio", Settings(tmp_path, tmp_path, 1, True))
    assert "no data set fsdd" in found["absent"]
    row = next(row for row in ROWS if row.name == "epoch.audio")
    assert "absent: no data set fsdd" in cells(row, found)[2]


@pytest.mark.parametrize(("ratio", "met"), [(2.0, True), (1.9, False)])
def test_an_aim_is_met_from_its_ratio_on(ratio: float, met: bool) -> None:
    assert Row("a.b", "c", "d", 2.0).met({"ratio": ratio}) is met
    assert Row("a.b", "c", "d", most=ratio - 0.5).met({"ours": 1.45}) is met


def test_the_command_measures_writes_json_and_shows_a_table(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = call("benchmarks", "startup.help", "--quick", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "startup.help" in done.stdout
    assert "quick" in done.stdout
    content = json.loads(out.read_text())
    assert 0 < content["rows"]["startup.help"]["ours"] < 60
    assert "`startup.help` (quick)" in document(content)


def test_without_a_gpu_its_benchmark_says_what_to_do() -> None:
    done = call("benchmarks.gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "--device cpu --tiny" in done.stderr
