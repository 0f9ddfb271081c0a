"""A task, a backbone and a data format are added by their own files alone: a module and a YAML file each."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXTENSION = ROOT / "tests" / "fixtures" / "extension"
FOLDERS = ("backbones", "heads", "tasks", "datamodules", "foundation", "resmet", "conf", "benchmarks", "tests")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files of `EXTENSION` added to it."""
    root = tmp_path_factory.mktemp("extended")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
    for file in [*ROOT.glob("*.py"), ROOT / "pyproject.toml"]:
        shutil.copy(file, root)
    for file in sorted(EXTENSION.rglob("*.*")):
        target = root / file.relative_to(EXTENSION)
        assert not target.exists(), f"{target} would be changed"
        shutil.copy(file, target)
    return root


@pytest.fixture(scope="module")
def call(tree: Path) -> Callable[..., str]:
    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tree)}
        done = subprocess.run(
            [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Dark and bright images."""
    for split, count in (("train", 64), ("test", 16)):
        labels = np.arange(count) % 2
        noise = np.random.default_rng(count).integers(0, 100, (count, 1, 8, 8))
        images = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels)
    return tmp_path


def test_new_files_are_found_trained_and_evaluated(
    tree: Path, call: Callable[..., str], archives: Path, tmp_path: Path
) -> None:
    assert "train.py task=classification data=npz" in call("doctor.py", str(archives))
    words = ("task=prototypes", "backbone=strided_convs", "data=npz", f"data.root={archives}")
    folder = tmp_path / "run"
    call("train.py", *words, "trainer=cpu", "trainer.max_epochs=8", "recipe.optimizer.lr=0.01", f"run_dir={folder}")
    call("evaluate.py", f"ckpt={folder}/checkpoints/best.ckpt", f"run_dir={tmp_path / 'evaluation'}")
    for name in ("run", "evaluation"):
        assert json.loads((tmp_path / name / "metrics.json").read_text())["test"]["accuracy"] == 1


def test_new_files_obey_the_same_laws(call: Callable[..., str]) -> None:
    call(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_conf.py", "tests/test_layering.py", "-m", "not slow"
    )
