"""The default number of workers, the limits of memory and files, and the end of workers."""

import gc
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from data_factories import set_up

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
    ("arguments", "expected"),
    [
        # in_memory, batched, gpu, batch_bytes, concurrent_loaders
        ((True, True, False, 50 * MB, 1), 0),  # the step uses all cores of a CPU
        ((True, False, False, 50 * MB, 1), 0),
        ((True, True, True, MB, 1), 0),  # microseconds per item
        ((True, True, True, 50 * MB, 1), 2),  # stacking takes long
        ((True, False, True, MB, 1), 8),  # torchvision's policies, item by item
        ((False, True, False, MB, 1), 8),  # files are decoded
        ((False, True, True, MB, 8), 2),  # in each of eight processes
        ((False, True, True, MB, 64), 1),
    ],
)
def test_default_number_of_workers(
    arguments: tuple[bool, bool, bool, int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 16)
    assert default_num_workers(*arguments) == expected
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert default_num_workers(*arguments) <= 1


def test_cores_are_those_of_the_affinity() -> None:
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
        (None, 50 * MB, 1, (8, 2)),  # unlimited
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
        assert "docker run --shm-size=8g" in note
        used = batch * (fits.num_workers * fits.prefetch_factor + 1) * concurrent_loaders
        assert used <= (free or 0) or not fits.num_workers


def test_little_shared_memory_is_noted_once(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "resmet")
    monkeypatch.setattr(logging.getLogger("resmet"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("resmet"), "propagate", True)
    monkeypatch.setattr(workers, "free_shared_memory", lambda: 20_000)
    data = set_up(ImageFolder(str(image_folder), batch_size=4, size=32, num_workers=2))
    for _ in range(2):
        loader = data.dataloader("train")
        assert loader.num_workers == 0
        assert sum(len(batch["names"]) for batch in loader) == len(data.datasets["train"])
    assert sum("--shm-size" in note for note in data.notes) == caplog.text.count("--shm-size") == 1


def test_bytes_of_a_batch(image_folder: Path, mask_folder: Path) -> None:
    items = set_up(ImageFolder(str(image_folder), size=32)).datasets["train"]
    assert items.batch_bytes(4) == 4 * 3 * 32 * 32
    assert items.batch_bytes(1000) == len(items) * 3 * 32 * 32
    crops = set_up(Digits(augment=Augment(random_crop=10))).datasets["train"]
    assert crops.batch_bytes(10) == 10 * 10 * 10
    masks = set_up(MaskFolder(str(mask_folder))).datasets["train"]
    assert masks.batch_bytes(2) == 2 * sum(part.numel() * part.element_size() for part in masks.sample(0))


SMALL_SHM = """
import logging, sys
from datamodules.base import items
from datamodules.loading import dataloader
from datamodules.synthetic import Scenes
logging.basicConfig()
if sys.argv[1] == "unchecked":
    dataloader.TIMEOUT = 10.0
    items.fit_shared_memory = lambda options, concurrent_loaders: (options, "")
data = Scenes(count=120, target="mask", size=256, batch_size=24, num_workers=2)
data.setup("fit")
print("items", sum(len(batch["names"]) for batch in data.dataloader("train")))
data.teardown("")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "outcome"), [("checked", "--shm-size"), ("unchecked", "RuntimeError: DataLoader")])
def test_a_container_with_little_shared_memory(mode: str, outcome: str) -> None:
    """`unchecked`: as if other programs filled it after the check."""
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("this user can't mount a file system")
    script = f'mount -t tmpfs -o size=12m tmpfs /dev/shm && exec {sys.executable} -c "$0" {mode}'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, SMALL_SHM], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ("items 120" in done.stdout) == (mode == "checked"), done.stderr
    assert outcome in done.stderr


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(300, hard), hard))
    try:
        raise_file_limit(LoaderOptions(8, 4))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(256 + 8 * 8 * 5, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_boxes_are_transferred_in_few_files() -> None:
    """One open file per box would exceed the limit of a process."""
    data = set_up(Scenes(count=60, target="boxes", size=48, batch_size=8, num_workers=1))
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


def children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def test_only_the_workers_of_training_persist(image_folder: Path) -> None:
    data = set_up(ImageFolder(str(image_folder), batch_size=2, size=32, cache=False, num_workers=2))
    training, validation = data.dataloader("train"), data.dataloader("val")
    list(training)
    training_workers = children()
    assert len(training_workers) == 2
    for loader in (validation, training, validation):
        list(loader)
        assert children() == training_workers
    iterator = iter(validation)
    next(iterator)
    assert len(children()) == 4
    iterator.close()  # a stage that ends early
    assert children() == training_workers
    data.on_exception(ValueError())
    assert not children()


@pytest.mark.parametrize("split", ["train", "val"])
def test_workers_end_with_the_last_reference_to_their_loader(split: str, image_folder: Path) -> None:
    """There is no reference cycle: the garbage collector would close descriptors that torch still writes to (see ItemLoader)."""
    gc.disable()
    try:
        data = set_up(ImageFolder(str(image_folder), batch_size=100, size=32, cache=False, num_workers=2))
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
    data = set_up(JointDataModule({"a": make(), "b": make()}))
    loader = data.dataloader("train")
    assert len(loader.flattened) == 2
    assert [next(iter(part.loaders)).num_workers for part in data.parts.values()] == [2, 2]
    assert set_up(make()).dataloader("train").num_workers == 4 <= MAX_WORKERS


def descendants(pid: int) -> list[int]:
    """Returns the child processes of a process, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def training(image_folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    data = ("data=image_folder", f"data.root={image_folder}", "data.size=32", "data.cache=false", "data.num_workers=2")
    more = ("data.batch_size=4", "backbone.width=8", "trainer=cpu", "trainer.max_epochs=100000", "run_dir=run")
    command = [sys.executable, str(ROOT / "train.py"), *data, *more]
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
