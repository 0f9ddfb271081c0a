"""The doctor as a person calls it."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Run = Callable[..., subprocess.CompletedProcess]
TINY = ("backbone.width=8", "trainer.accelerator=cpu", "experiment=debug")


def test_first_slowly_then_at_once(run: Run, voc: Path, tmp_path: Path) -> None:
    words = ("voc", "json=report.json")
    first = run("doctor", *words)
    assert first.returncode == 0, first.stderr
    (tmp_path / "report.json").rename(tmp_path / "first.json")
    second = run("doctor", *words)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert (tmp_path / "report.json").read_text() == (tmp_path / "first.json").read_text()
    report = json.loads((tmp_path / "first.json").read_text())
    assert (tmp_path / report["sheet"]).is_file()
    script, *command = shlex.split(report["command"])[1:]
    assert script == "train.py"
    trained = run("train", *command, *TINY, "data.size=32", "run_dir=trained")
    assert trained.returncode == 0, trained.stderr


def test_the_remembered_answer_needs_the_standard_library_alone(run: Run, voc: Path, tmp_path: Path) -> None:
    assert run("doctor", "voc").returncode == 0
    program = (
        f"import sys, runpy\nsys.path.insert(0, {str(ROOT)!r})\nsys.argv = ['doctor.py', 'voc']\n"
        f"try:\n    runpy.run_path({str(ROOT / 'doctor.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print([m for m in ('torch', 'numpy', 'hydra', 'rich', 'yaml') if m in sys.modules], end.code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


def test_errors_leave_with_2_every_time(run: Run, image_folder: Path) -> None:
    shutil.rmtree(image_folder / "train" / "dark")
    first, second = run("doctor", str(image_folder)), run("doctor", str(image_folder))
    assert first.returncode == second.returncode == 2
    assert "one class only (light)" in " ".join(first.stdout.split())
    assert first.stdout == second.stdout
    assert first.stderr.splitlines()[-1] == second.stderr.splitlines()[-1]
    assert "training can't go well on this data: mend the error above first" in first.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: there is no such folder: give the folder that holds the data"),
        (["voc", "jsn=a.json"], "no key jsn. Nearest: json"),
        (["voc", "data=vocc"], "data=vocc: there is no such choice. Nearest: voc"),
        (["voc", "data.sise=3"], "no key data.sise. Nearest: data.size"),
        (["voc", "json=/proc/nowhere/a.json"], "json=/proc/nowhere/a.json can't be written"),
        ([], "root is required"),
    ],
)
def test_refusals(run: Run, voc: Path, words: list[str], said: str) -> None:
    done = run("doctor", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


CLEAN = ("mnist_png", "mnist_idx", "medical_mnist", "clothing", "bccd_yolo", "nuclei_fluo")
FOUND = {
    "bccd": [
        "boxes without area (or turned inside out) dropped: 2",
        "BloodImage_00338.jpg",
        "the tag path of 364",
        "47 of 411 numbers are missing",
    ],
    "fsdd": ["6 of 6 groups (column speaker) are in two splits", "0.14 to 2.28 s"],
    "lung_ultrasound_video": ["7 .avi files are really MP4", "3 suffixes are in capitals", "odd number of pixels"],
    "membrane": ["mask value 0 is the rarer one (22 % of the pixels)", "{0: object, 255: background}"],
    "mnist_idx": ["train-images-idx3-ubyte.gz 12000x28x28"],
    "nuclei_fluo": ["alpha channel that is 255 everywhere", "21 to 1,019 pixels", "objects touch another"],
}


@pytest.mark.parametrize("name", sorted({*CLEAN, *FOUND}))
def test_real_sets(see: Callable[..., dict], real: Path, name: str) -> None:
    report = see(real / name)
    text = str([report["because"], report["described"], report["findings"], report["command"]])
    assert report["errors"] == ("video" in name)
    for words in FOUND.get(name, []):
        assert words in text
    if name in CLEAN:
        assert report["warnings"] == 0, report["findings"]
