"""The number of workers follows from what they have to do and from the shared memory, and none outlives its use."""

import gc
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.formats.image_folder import ImageFolder
from datamodules.formats.mask_folder import MaskFolder
from datamodules.joint import JointDataModule
from datamodules.loading import workers
from datamodules.loading.collate import collate, collate_packed, unpack
from datamodules.loading.workers import (
    MAX_WORKERS,
    LoaderOptions,
    default_num_workers,
    fit_shared_memory,
    raise_file_limit,
)
from datamodules.synthetic import Digits, Scenes
from datamodules.transforms.augment import Augment
from foundation.hardware import cores
from foundation.targets.kinds import TARGETS

ROOT = Path(__file__).parents[3]
MB = 1_000_000


@pytest.mark.parametrize(
    ("in_memory", "batched", "gpu", "batch_bytes", "concurrent_loaders", "expected"),
    [
        (True, True, False, 50 * MB, 1, 0),  # a CPU has no idle core
        (True, False, False, 50 * MB, 1, 0),
        (True, True, True, MB, 1, 0),  # microseconds an item
        (True, True, True, 50 * MB, 1, 2),  # stacking them takes long
        (True, False, True, MB, 1, 8),  # torchvision's policies, item by item
        (False, True, False, MB, 1, 8),  # files are decoded
        (False, True, True, MB, 8, 2),  # by each of eight processes
        (False, True, True, MB, 64, 1),
    ],
)
def test_workers_where_there_is_something_to_do(
    in_memory: bool,
    batched: bool,
    gpu: bool,
    batch_bytes: int,
    concurrent_loaders: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 16)
    assert default_num_workers(in_memory, batched, gpu, batch_bytes, concurrent_loaders) == expected
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert default_num_workers(in_memory, batched, gpu, batch_bytes, concurrent_loaders) <= 1


def test_cores_are_those_that_may_be_used() -> None:
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(bound)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, bound)
    assert 1 <= cores() <= len(bound)


@pytest.mark.parametrize(
    ("free", "batch", "concurrent_loaders", "expected"),
    [
        (None, 50 * MB, 1, (8, 2)),  # no such folder
        (64 * MB, 0, 1, (8, 2)),
        (24_000 * MB, 50 * MB, 1, (8, 2)),
        (64 * MB, MB, 1, (8, 2)),
        (64 * MB, 4 * MB, 1, (8, 1)),
        (64 * MB, 10 * MB, 1, (4, 1)),
        (64 * MB, 10 * MB, 2, (1, 1)),
        (64 * MB, 38 * MB, 1, (0, 1)),
    ],
)
def test_batches_fit_into_shared_memory(
    free: int | None, batch: int, concurrent_loaders: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "free_shared_memory", lambda: free)
    fits, note = fit_shared_memory(LoaderOptions(8, batch_bytes=batch), concurrent_loaders)
    assert (fits.num_workers, fits.prefetch_factor) == expected
    assert bool(note) == (expected != (8, 2))
    if note:
        assert "64 MB free, too little for 8 workers with batches of" in note
        assert "docker run --shm-size=8g" in note
        assert (
            batch * (fits.num_workers * fits.prefetch_factor + 1) * concurrent_loaders <= (free or 0)
            or not fits.num_workers
        )


def test_what_does_not_fit_is_noted_once_and_loaded(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "resmet")
    monkeypatch.setattr(logging.getLogger("resmet"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("resmet"), "propagate", True)
    monkeypatch.setattr(workers, "free_shared_memory", lambda: 20_000)
    data = ImageFolder(str(image_folder), batch_size=4, size=32, num_workers=2)
    data.setup("fit")
    for _ in range(2):
        loader = data.dataloader("train")
        assert loader.num_workers == 0
        assert sum(len(batch["names"]) for batch in loader) == len(data.datasets["train"])
    assert len([note for note in data.notes if "too little for 2 workers" in note]) == 1
    assert caplog.text.count("too little for 2 workers") == 1


def test_bytes_of_a_batch(image_folder: Path, mask_folder: Path) -> None:
    data = ImageFolder(str(image_folder), batch_size=4, size=32)
    data.setup("fit")
    assert data.datasets["train"].batch_bytes(4) == 4 * 3 * 32 * 32
    assert data.datasets["train"].batch_bytes(1000) == len(data.datasets["train"]) * 3 * 32 * 32
    cut = Digits(augment=Augment(random_crop=10))
    cut.setup("fit")
    assert cut.datasets["train"].batch_bytes(10) == 10 * 10 * 10
    masks = MaskFolder(str(mask_folder), batch_size=2)
    masks.setup("fit")
    signal_, target = masks.datasets["train"].sample(0)
    assert masks.datasets["train"].batch_bytes(2) == 2 * (signal_.numel() + target.numel() * target.element_size())


SMALL_SHM = """
import logging, sys
from datamodules.base import items
from datamodules.loading import dataloader
from datamodules.synthetic import Scenes
logging.basicConfig()
if sys.argv[1] == "blind":
    dataloader.TIMEOUT = 10.0
    items.fit_shared_memory = lambda options, concurrent_loaders: (options, "")
data = Scenes(count=120, target="mask", size=256, batch_size=24, num_workers=2)
data.setup("fit")
print("items", sum(len(batch["names"]) for batch in data.dataloader("train")))
data.teardown("")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "outcome"), [("checked", "too little for 2 workers"), ("blind", "RuntimeError: DataLoader")]
)
def test_a_container_with_little_shared_memory(way: str, outcome: str) -> None:
    """`blind`: other programs fill it after the check."""
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("needs a mount of its own, which this user can't have")
    script = f'mount -t tmpfs -o size=12m tmpfs /dev/shm && exec {sys.executable} -c "$0" {way}'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, SMALL_SHM], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ("items 120" in done.stdout) == (way == "checked"), done.stderr
    assert outcome in done.stderr


def test_files_may_be_opened_as_needed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(300, hard), hard))
    try:
        raise_file_limit(LoaderOptions(8, 4))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(256 + 8 * 8 * 5, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_boxes_cross_in_few_files() -> None:
    """An open file each would be more than a process may have, and what is kept in memory would never be given back."""
    data = Scenes(count=60, target="boxes", size=48, batch_size=8, num_workers=1)
    data.setup("fit")
    items = data.datasets["val"].__getitems__([(0, i) for i in range(12)])
    kind = TARGETS["boxes"]
    plain, packed = collate(items, kind), unpack(collate_packed(items, kind), kind)
    assert packed.keys() == plain.keys()
    for one, other in zip(plain["target"], packed["target"], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "labels"))
    batches = list(data.dataloader("train"))
    open_now = len(os.listdir("/proc/self/fd"))
    batches += list(data.dataloader("train"))
    assert len(os.listdir("/proc/self/fd")) - open_now < 8 * len(batches)
    assert unpack(collate_packed([], kind), kind) == {"names": []}


def children() -> int:
    return len(multiprocessing.active_children())


def test_validations_workers_end_with_it_and_trainings_stay(image_folder: Path) -> None:
    data = ImageFolder(str(image_folder), batch_size=2, size=32, cache=False, num_workers=2)
    data.setup("fit")
    training, validation = data.dataloader("train"), data.dataloader("val")
    list(training)
    training_workers = {child.pid for child in multiprocessing.active_children()}
    assert len(training_workers) == 2
    for _ in range(2):
        list(validation)
        assert {child.pid for child in multiprocessing.active_children()} == training_workers
        list(training)
        assert {child.pid for child in multiprocessing.active_children()} == training_workers
    iterator = iter(validation)
    next(iterator)
    assert children() == 4
    iterator.close()  # a stage that ends early
    assert children() == 2
    data.on_exception(ValueError())
    assert children() == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_workers_end_with_the_last_reference_to_their_loader(split: str, image_folder: Path) -> None:
    """No reference cycle holds them: the garbage collector would close descriptors that torch still writes to (see ItemLoader)."""
    gc.disable()
    try:
        data = ImageFolder(str(image_folder), batch_size=100, size=32, cache=False, num_workers=2)
        data.setup("fit")
        loader = data.dataloader(split)
        batches = iter(loader)
        next(batches)
        assert children()
        del loader, batches
        assert not children()
    finally:
        gc.enable()


def test_joint_parts_share_the_cores(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 4)
    make = partial(ImageFolder, str(image_folder), batch_size=4, size=32, cache=False)
    data = JointDataModule({"a": make(), "b": make()})
    data.setup("fit")
    loader = data.dataloader("train")
    assert len(loader.flattened) == 2
    assert [next(iter(part.loaders)).num_workers for part in data.parts.values()] == [2, 2]
    alone = make()
    alone.setup("fit")
    assert alone.dataloader("train").num_workers == 4 <= MAX_WORKERS


def descendants(pid: int) -> list[int]:
    """Returns the processes that a process started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def wait_until(what: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def training(image_folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    words = ("data=image_folder", f"data.root={image_folder}", "data.size=32", "data.cache=false", "data.num_workers=2")
    more = (
        "data.batch_size=4",
        "backbone.width=8",
        "trainer.max_epochs=100000",
        "trainer.accelerator=cpu",
        "run_dir=run",
    )
    command = [sys.executable, str(ROOT / "train.py"), *words, *more]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_run(training: subprocess.Popen, signum: int, tmp_path: Path) -> None:
    assert wait_until(lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file(), 60)
    assert wait_until(lambda: len(descendants(training.pid)) >= 2, 20)
    num_workers = descendants(training.pid)
    training.send_signal(signum)
    training.wait(60)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in num_workers), 20)
