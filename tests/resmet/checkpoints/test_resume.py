"""A run that is interrupted anywhere and resumed equals an uninterrupted one: the same weights and metrics, bit for bit."""

import logging
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fixture_files import write_image
from lightning.pytorch.callbacks import EarlyStopping
from refusals import refused
from run_files import assert_same_runs, read_checkpoint, read_metrics
from small_runs import DATA, Kill, Killed, make_task, train_small

from datamodules.formats.image_folder import ImageFolder
from foundation.structures import InputError
from resmet.callbacks.checkpoint import CheckpointWriter
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO
from resmet.checkpoints.layout import candidates
from tasks.classification import Classification
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.recipe import Recipe

pytestmark = pytest.mark.slow

FULL = {"recipe": Recipe(ema=0.9, freeze=FreezeSchedule(unfreezing=0.6)), "accumulate_grad_batches": 2}
"""With EMA, gradual unfreezing and accumulation."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns the uninterrupted run of a kind, with `FULL` or not, trained once."""
    made: dict[tuple, Path] = {}

    def get(kind: str, full: bool) -> Path:
        if (kind, full) not in made:
            folder = tmp_path_factory.mktemp(f"{kind}{full}")
            made[kind, full] = train_small(kind, folder, **(FULL if full else {}))
        return made[kind, full]

    return get


PLACES = {"early": {"step": 3}, "late": {"step": 6}, "validating": {"validation": 1}, "between epochs": {"epoch": 2}}


@pytest.mark.parametrize(
    ("kind", "full", "place"),
    [*((kind, True, place) for kind in DATA for place in PLACES), *((kind, False, "late") for kind in DATA)],
)
def test_a_run_interrupted_at_any_point_resumes(kind: str, full: bool, place: str, whole: Any, tmp_path: Path) -> None:
    """The last checkpoint is that of the step before; augmentation, shuffling and the epoch's partial metrics continue."""
    choices: dict[str, Any] = FULL if full else {}
    with pytest.raises(Killed):
        train_small(kind, tmp_path / "run", [Kill(**PLACES[place])], checkpoint_every="0.001s", **choices)
    assert not (tmp_path / "run" / "metrics.json").exists()
    train_small(kind, tmp_path / "run", resume=True, checkpoint_every="0.001s", **choices)
    assert_same_runs(whole(kind, full), tmp_path / "run")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_number_of_workers_does_not_matter(num_workers: int, whole: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_small(
            "classification", tmp_path / "run", [Kill(step=8)], checkpoint_every="0.001s", num_workers=num_workers
        )
    train_small("classification", tmp_path / "run", resume=True, num_workers=num_workers)
    assert_same_runs(whole("classification", False), tmp_path / "run")


@pytest.mark.parametrize(
    "place", [{"step": 4}, {"step": 6}, {"validation": 1}], ids=["step", "accumulating", "validating"]
)
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_no_step_is_lost_on_a_signal(place: dict, signum: int, code: int, whole: Any, tmp_path: Path) -> None:
    """No other checkpoint is due: the run resumes from the one that was written because of the signal."""
    with pytest.raises(SystemExit) as left:
        train_small("segmentation", tmp_path / "run", [Kill(signum=signum, **place)], **FULL)
    assert left.value.code == code
    train_small("segmentation", tmp_path / "run", resume=True, **FULL)
    assert_same_runs(whole("segmentation", True), tmp_path / "run")


def test_early_stopping_stays_stopped(tmp_path: Path) -> None:
    """A run that was stopped early and interrupted before the test takes no further step."""

    def stop() -> EarlyStopping:
        return EarlyStopping("val/score", mode="max", patience=1, min_delta=2.0)

    train_small("classification", tmp_path / "run", [stop()], max_epochs=6)
    before = read_metrics(tmp_path / "run")
    assert before["epochs"] == 2
    (tmp_path / "run" / "metrics.json").unlink()
    train_small("classification", tmp_path / "run", [stop()], max_epochs=6, resume=True)
    after = read_metrics(tmp_path / "run")
    assert after["steps"] == before["steps"]
    assert after["test"] == before["test"]


def test_an_unreadable_checkpoint_falls_back_to_the_one_before(whole: Any, tmp_path: Path, caplog) -> None:
    with pytest.raises(Killed):
        train_small("classification", tmp_path / "run", [Kill(step=8)], checkpoint_every="0.001s")
    last, previous = candidates(tmp_path / "run" / "checkpoints")
    os.truncate(last, last.stat().st_size // 2)
    assert previous.name == "previous-1.ckpt"
    train_small("classification", tmp_path / "run", resume=True)
    assert "last.ckpt can't be read" in caplog.text
    assert "resumes from previous-1.ckpt" in caplog.text
    assert_same_runs(whole("classification", False), tmp_path / "run")


def test_no_readable_checkpoint_is_an_error(tmp_path: Path) -> None:
    train_small("classification", tmp_path / "run", max_epochs=1)
    for path in candidates(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"nothing")
    with refused("checkpoint.none"):
        train_small("classification", tmp_path / "run", resume=True)


def test_other_items_are_refused(image_folder: Path, tmp_path: Path) -> None:
    """The classes, counts and names are the same, but one file has another size."""
    data = partial(ImageFolder, str(image_folder), size=32)
    train_small(data, tmp_path / "run", max_epochs=1)
    write_image(image_folder / "train" / "dark" / "0.png", size=(40, 40), color=40)
    with refused("checkpoint.other_data"):
        train_small(data, tmp_path / "run", max_epochs=2, resume=True)


def test_a_file_that_becomes_unreadable_in_a_run_is_replaced(image_folder: Path, tmp_path: Path) -> None:
    """Under on_error=skip, a file that becomes unreadable during the run is replaced by another, before and after a resume."""
    (image_folder / "train" / "dark" / "1.png").write_bytes(b"bad from the start")

    def data() -> ImageFolder:
        return ImageFolder(str(image_folder), batch_size=3, size=32, on_error="skip", cache=False)

    with pytest.raises(Killed):
        train_small(data, tmp_path / "run", [Kill(step=4)], checkpoint_every="0.001s")
    (image_folder / "train" / "light" / "2.png").write_bytes(b"bad from now on")
    train_small(data, tmp_path / "run", resume=True)
    content = read_checkpoint(tmp_path / "run")
    assert [Path(name).name for name in content["excluded_names"]] == ["1.png"]
    skipped = (tmp_path / "run" / "skipped.txt").read_text()
    assert "dark/1.png" in skipped
    assert "light/2.png" in skipped


def test_a_file_that_ends_a_run_can_be_skipped_later(image_folder: Path, tmp_path: Path) -> None:
    """``data.on_error`` may change to ``skip`` and back: the indices of items and the excluded ones stay the same."""
    broken, late = image_folder / "train" / "light" / "2.png", image_folder / "train" / "dark" / "1.png"

    def data(on_error: str) -> ImageFolder:
        return ImageFolder(str(image_folder), batch_size=3, size=32, on_error=on_error, cache=False)

    with pytest.raises(Killed):
        train_small(partial(data, "stop"), tmp_path / "run", [Kill(step=4)], checkpoint_every="0.001s")
    right = broken.read_bytes()
    broken.write_bytes(b"bad from now on")
    with pytest.raises(InputError) as error:
        train_small(partial(data, "stop"), tmp_path / "run", resume=True)
    assert "2.png" in str(error.value)
    train_small(partial(data, "skip"), tmp_path / "run", resume=True)
    content = read_checkpoint(tmp_path / "run")
    assert content["excluded_names"] == []
    assert "light/2.png" in (tmp_path / "run" / "skipped.txt").read_text()
    broken.write_bytes(right)
    train_small(partial(data, "stop"), tmp_path / "run", max_epochs=4, resume=True)
    write_image(late.with_name("9.png"), color=40)
    with refused("checkpoint.other_data"):
        train_small(partial(data, "skip"), tmp_path / "run", max_epochs=5, resume=True)


def test_a_file_that_was_skipped_from_the_start_stays_excluded_when_repaired(
    image_folder: Path, tmp_path: Path
) -> None:
    bad = image_folder / "train" / "dark" / "1.png"
    right = bad.read_bytes()
    bad.write_bytes(b"bad from the start")

    def data(on_error: str) -> ImageFolder:
        return ImageFolder(str(image_folder), batch_size=3, size=32, on_error=on_error, cache=False)

    train_small(partial(data, "skip"), tmp_path / "run", max_epochs=1)
    bad.write_bytes(right)
    train_small(partial(data, "stop"), tmp_path / "run", max_epochs=2, resume=True)
    content = read_checkpoint(tmp_path / "run")
    assert [Path(name).name for name in content["excluded_names"]] == ["1.png"]


def test_an_unknown_monitored_metric_is_refused(tmp_path: Path) -> None:
    with refused("callbacks.unknown_monitor") as error:
        train_small("classification", tmp_path / "run", [EarlyStopping("foo")])
    assert "val/score, val/accuracy" in str(error.value)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("kind", DATA)
def test_the_metric_names_of_a_task_are_known_before(kind: str, whole: Any) -> None:
    data = DATA[kind]()
    data.setup("fit")
    columns = (whole(kind, False) / "metrics.csv").read_text().splitlines()[0].split(",")
    validated = {name.removeprefix("val/") for name in columns if name.startswith("val/")}
    assert validated == {"score", *make_task(kind, data).metric_names()}


def test_a_slow_disk_does_not_change_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best weights are still being written when worse ones have been validated: they stay the best."""
    right = AtomicCheckpointIO.write

    def slow(self: AtomicCheckpointIO, checkpoint: dict, target: Path) -> None:
        time.sleep(0.1)
        right(self, checkpoint, target)

    monkeypatch.setattr(AtomicCheckpointIO, "write", slow)
    monkeypatch.setattr(CheckpointWriter, "save_if_due", lambda *_: None)  # waits for the disk
    monkeypatch.setattr(
        Classification, "compute_metrics", lambda self, stage: {"accuracy": 1.0 / (1 + self.current_epoch)}
    )
    folder = train_small("classification", tmp_path / "run", max_epochs=3)
    assert read_checkpoint(folder, "best")["epoch"] == 0


def test_another_precision_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bf16 may resume a run of one that has it; the results differ."""
    warnings: list[str] = []
    monkeypatch.setattr(logging.getLogger("resmet"), "warning", warnings.append)
    train_small("classification", tmp_path / "run", max_epochs=1, precision="bf16-mixed")
    train_small("classification", tmp_path / "run", max_epochs=2, resume=True)
    assert any("bf16-mixed" in line and "32-true" in line for line in warnings)
    warnings.clear()
    train_small("classification", tmp_path / "run", max_epochs=3, resume=True)
    assert not any("bf16-mixed" in line for line in warnings)
