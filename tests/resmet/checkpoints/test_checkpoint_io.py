"""A checkpoint is written whole or not at all, proven, and read without running code."""

from pathlib import Path

import pytest
import torch

from foundation.structures import RunError
from resmet.checkpoints import checkpoint_io
from resmet.checkpoints.checkpoint_io import WholeFiles, copied, sweep
from resmet.checkpoints.layout import candidates, previous


def full(content: object, file) -> None:
    file.write(b"half")
    raise OSError(28, "No space left on device")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("options", [None, {"background": True}])
def test_a_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch, caplog, options) -> None:
    path, io = tmp_path / "last.ckpt", WholeFiles()
    io.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    io.save_checkpoint({"a": torch.zeros(3)}, path, options)
    io.wait()
    assert path.read_bytes() == before
    assert files(tmp_path) == ["last.ckpt"]
    assert "could not be written" in caplog.text
    assert "the one before is safe" in caplog.text
    assert "the run goes on" in caplog.text


@pytest.mark.parametrize("options", [None, {"background": True}])
def test_a_failed_write_ends_the_run_where_that_was_asked(tmp_path: Path, monkeypatch, options) -> None:
    io = WholeFiles(stop=True)
    monkeypatch.setattr(torch, "save", full)

    def save() -> None:
        io.save_checkpoint({"a": torch.zeros(3)}, tmp_path / "last.ckpt", options)
        io.wait()

    with pytest.raises(
        RunError, match="No space left on device.*on_failure=stop: make room, then start anew: there is none"
    ):
        save()


def test_a_file_that_reads_otherwise_does_not_take_the_place(tmp_path: Path, monkeypatch, caplog) -> None:
    """A disk that flips a byte behind our back."""
    path, io = tmp_path / "last.ckpt", WholeFiles()
    io.save_checkpoint({"a": torch.ones(300)}, path)
    right = torch.save

    def flipped(content: object, file) -> None:
        right(content, file)
        file.seek(-900, 2)
        byte = file.read(1) if file.readable() else b"\x00"
        file.seek(-900, 2)
        file.write(bytes([byte[0] ^ 0xFF]))

    monkeypatch.setattr(torch, "save", flipped)
    io.save_checkpoint({"a": torch.full((300,), 2.0)}, path)
    assert "could not be written" in caplog.text
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(300))
    assert files(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_so_many_earlier_ones_stay(tmp_path: Path, keep: int) -> None:
    io = WholeFiles(keep=keep)
    for value in range(6):
        io.save_checkpoint({"value": value}, tmp_path / "last.ckpt")
        io.save_checkpoint({"value": value}, tmp_path / "best.ckpt")
    found = [torch.load(path, weights_only=True)["value"] for path in candidates(tmp_path)]
    assert found == list(range(5, 4 - keep, -1))
    assert len(files(tmp_path)) == keep + 2


def test_without_the_last_one_the_one_before_is_found(tmp_path: Path) -> None:
    io = WholeFiles(keep=2)
    for value in range(3):
        io.save_checkpoint({"value": value}, tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").unlink()
    assert candidates(tmp_path) == [previous(tmp_path, 1), previous(tmp_path, 2)]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    for name in (".last.ckpt.part", ".last.ckpt.twin", "last.ckpt"):
        (tmp_path / name).write_bytes(b"half")
    sweep(tmp_path)
    assert files(tmp_path) == ["last.ckpt"]


def test_beside_the_training_a_copy_is_written(tmp_path: Path, monkeypatch) -> None:
    """What changes after the call is not in the file."""
    value, nested = torch.ones(3), {"list": [torch.ones(2)], "tuple": (torch.ones(1), "x")}
    io, right = WholeFiles(), checkpoint_io.write

    def late(checkpoint, target, keep) -> None:
        value.zero_()
        nested["list"][0].zero_()
        right(checkpoint, target, keep)

    monkeypatch.setattr(checkpoint_io, "write", late)
    io.save_checkpoint({"value": value, "nested": nested}, tmp_path / "last.ckpt", {"background": True})
    io.wait()
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["value"].tolist() == [1, 1, 1]
    assert content["nested"]["list"][0].tolist() == [1, 1]
    assert copied(nested)["tuple"][1] == "x"


def test_reading_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="can't be read any more .it holds objects"):
        WholeFiles().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "mark").exists()
