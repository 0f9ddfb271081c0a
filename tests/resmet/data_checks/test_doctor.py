"""The doctor as a user runs it."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class

from foundation.storage.safe_load import read_yaml
from resmet.commands.doctor import task_inputs

Run = Callable[..., subprocess.CompletedProcess]
TINY = ("backbone.width=8", "trainer.accelerator=cpu", "experiment=debug")


@pytest.mark.slow
def test_its_command_trains(run: Run, voc: Path, tmp_path: Path) -> None:
    examined = run("doctor", "voc", "json=report.json")
    assert examined.returncode == 0, examined.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / report["sheet"]).is_file()
    script, *command = shlex.split(report["command"])[1:]
    assert script == "train.py"
    trained = run("train", *command, *TINY, "data.size=32", "run_dir=trained")
    assert trained.returncode == 0, trained.stderr


@pytest.mark.slow
def test_it_exits_with_2_and_reports_where_training_cannot_succeed(run: Run, image_folder: Path) -> None:
    shutil.rmtree(image_folder / "train" / "dark")
    examined = run("doctor", str(image_folder))
    assert examined.returncode == 2
    assert "light" in examined.stdout
    assert "[data.errors_found]" in examined.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "concerned"),
    [
        (["nowhere"], "data.missing_folder", "nowhere"),
        (["voc", "jsn=a.json"], "config.unknown_key", "json"),
        (["voc", "data=vocc"], "config.unknown_choice", "voc"),
        (["voc", "data.sise=3"], "config.unknown_key", "data.size"),
        (["voc", "json=/proc/nowhere/a.json"], "output.not_writable", "/proc/nowhere/a.json"),
        ([], "config.missing_value", "root"),
    ],
)
def test_the_doctor_refuses_wrong_arguments(run: Run, voc: Path, words: list[str], code: str, concerned: str) -> None:
    examined = run("doctor", *words)
    assert examined.returncode == 2
    assert f"[{code}]" in examined.stderr
    assert concerned in examined.stderr
    assert "Traceback" not in examined.stderr


def test_inputs_of_tasks_are_those_of_their_classes() -> None:
    files = (Path(__file__).parents[3] / "conf" / "task").glob("*.yaml")
    tasks = {file.stem: get_class(read_yaml(file)["_target_"]) for file in files}
    assert task_inputs() == {name: (task.targets, task.axes) for name, task in tasks.items()}


CLEAN = ("mnist_png", "mnist_idx", "medical_mnist", "clothing", "bccd_yolo", "nuclei_fluo")
FOUND = {
    "bccd": {"boxes.no_area", "orphans.unresolved_tag", "files.numbering_gaps"},
    "fsdd": {"leakage.groups_across_splits"},
    "lung_ultrasound_video": {"files.wrong_suffix", "files.uppercase_suffix", "videos.odd_size", "videos.no_task"},
    "membrane": {"mask_values.polarity"},
    "nuclei_fluo": {"images.opaque_alpha", "masks.touching_objects", "format.alternative"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*CLEAN, *FOUND}))
def test_real_sets(report: Callable[..., dict[str, Any]], real: Path, name: str) -> None:
    result = report(real / name)
    codes = {finding["code"] for finding in result["findings"]}
    assert result["errors"] == ("video" in name)
    assert FOUND.get(name, set()) <= codes
    if name in CLEAN:
        assert result["warnings"] == 0, result["findings"]
