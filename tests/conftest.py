"""Fixtures of all tests: small generated data sets, the real ones where they are available, and finished runs."""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from fixture_files import write_image, write_voc_annotation, write_wav
from PIL import Image
from preloaded import Preloaded, start_preloaded

torch.set_num_threads(1)  # nets are small, and the tests run in several processes
os.environ["OMP_NUM_THREADS"] = "1"  # also in the scripts that tests start

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-data", action="store_true", help="fail instead of skipping where the real data is absent"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that start a script or need a finished run as slow."""
    for item in items:
        if {"run", "finished_run"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Spares garbage collections what was imported, which takes longer to traverse than a test to run."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def real(pytestconfig: pytest.Config) -> Path:
    """The folder of real data sets: RESMET_DATA, or shared/data beside this repository. Tests without it are skipped."""
    folder = Path(os.environ.get("RESMET_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        absent = pytest.fail if pytestconfig.getoption("--require-data") else pytest.skip
        absent(f"no real data at {folder}: set RESMET_DATA")
    return folder


@pytest.fixture(scope="session")
def real_weights(real: Path) -> Path:
    return real.parent / "weights" / "cifar10"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a finished run of a kind of task, which the whole session trains once. Read it; write nothing into it."""
    import small_runs  # not above: one module that does not import would fail every test

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # what the processes of pytest-xdist share

    def folder_of(kind: str) -> Path:
        folder = root / "finished" / kind
        with FileLock(root / f"finished-{kind}.lock"):
            if not (folder / "report.html").is_file():
                small_runs.run_train(*small_runs.OVERRIDES[kind], "backbone.width=8", f"run_dir={folder}")
        return folder

    return folder_of


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """An image folder of two classes, which differ in brightness: 6 training and 2 test images each."""
    root = tmp_path / "pictures"
    for split, count in (("train", 6), ("test", 2)):
        for name, color in (("dark", 40), ("light", 200)):
            for i in range(count):
                write_image(root / split / name / f"{i}.png", color=color + 5 * i)
    return root


@pytest.fixture
def mask_folder(tmp_path: Path) -> Path:
    """Six images with a bright square, whose mask is 255 on 0."""
    root = tmp_path / "masked"
    for i in range(6):
        write_image(root / "images" / f"{i}.png", (40, 30), 30)
        array = np.zeros((30, 40), np.uint8)
        array[5:15, 4 + i : 20 + i] = 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(array).save(root / "masks" / f"{i}.png")
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A Pascal VOC folder of eight images with one box each, and lists for train and val."""
    root = tmp_path / "voc"
    for i in range(8):
        write_image(root / "JPEGImages" / f"{i}.png", (40, 30), seed=i)
        write_voc_annotation(root, str(i), [(("cat", "dog")[i % 2], 2 + i, 3, 20 + i, 25)])
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(map(str, range(6))))
    (lists / "val.txt").write_text("6\n7\n")
    return root


@pytest.fixture
def audio_csv(tmp_path: Path) -> Path:
    """A table of low and high tones of unequal length, 8 training and 4 test clips."""
    root = tmp_path / "sounds"
    rows = ["path,label,split"]
    for i in range(12):
        label, pitch = (("low", 200), ("high", 1500))[i % 2]
        length = 600 + 100 * i
        write_wav(root / "clips" / f"{i}.wav", 0.5 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000))
        rows.append(f"clips/{i}.wav,{label},{'train' if i < 8 else 'test'}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Runs scripts without importing torch again each time."""
    with start_preloaded() as process:
        yield process


@pytest.fixture
def run(tmp_path: Path, preloaded: Preloaded) -> Callable[..., subprocess.CompletedProcess]:
    """Runs a script of the project as a person would, in a folder of its own."""
    return partial(preloaded.run, tmp_path)
