"""A checkpoint is written whole or not at all, verified, and read without running code."""

from pathlib import Path

import pytest
import torch
from refusals import refused

from foundation.structures import RunError
from resmet.checkpoints import checkpoint_io
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO, copy_to_cpu, remove_partial
from resmet.checkpoints.layout import candidates, previous


def full(content: object, file) -> None:
    file.write(b"half")
    raise OSError(28, "No space left on device")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("options", [None, {"background": True}])
def test_a_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch, caplog, options) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    io.save_checkpoint({"a": torch.zeros(3)}, path, options)
    io.wait()
    assert path.read_bytes() == before
    assert files(tmp_path) == ["last.ckpt"]
    assert io.has_failed("last.ckpt")
    assert str(path) in caplog.text


def test_a_corrupt_file_does_not_replace_the_previous_one(tmp_path: Path, monkeypatch, caplog) -> None:
    """The disk flips a byte."""
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
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
    assert io.has_failed("last.ckpt")
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(300))
    assert files(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_keep_earlier_versions(tmp_path: Path, keep: int) -> None:
    io = AtomicCheckpointIO(keep=keep)
    for value in range(6):
        io.save_checkpoint({"value": value}, tmp_path / "last.ckpt")
        io.save_checkpoint({"value": value}, tmp_path / "best.ckpt")
    found = [torch.load(path, weights_only=True)["value"] for path in candidates(tmp_path)]
    assert found == list(range(5, 4 - keep, -1))
    assert len(files(tmp_path)) == keep + 2


def test_candidates_without_the_last_one(tmp_path: Path) -> None:
    io = AtomicCheckpointIO(keep=2)
    for value in range(3):
        io.save_checkpoint({"value": value}, tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").unlink()
    assert candidates(tmp_path) == [previous(tmp_path, 1), previous(tmp_path, 2)]


def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in (".last.ckpt.1a2b.part", ".last.ckpt.link", "last.ckpt"):
        (tmp_path / name).write_bytes(b"half")
    remove_partial(tmp_path)
    assert files(tmp_path) == ["last.ckpt"]


def test_a_copy_is_written_in_the_background(tmp_path: Path, monkeypatch) -> None:
    """Later changes are not in the file."""
    value, nested = torch.ones(3), {"list": [torch.ones(2)], "tuple": (torch.ones(1), "x")}
    io, right = AtomicCheckpointIO(), checkpoint_io.write_checkpoint

    def late(checkpoint, target, keep) -> None:
        value.zero_()
        nested["list"][0].zero_()
        right(checkpoint, target, keep)

    monkeypatch.setattr(checkpoint_io, "write_checkpoint", late)
    io.save_checkpoint({"value": value, "nested": nested}, tmp_path / "last.ckpt", {"background": True})
    io.wait()
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["value"].tolist() == [1, 1, 1]
    assert content["nested"]["list"][0].tolist() == [1, 1]
    assert copy_to_cpu(nested)["tuple"][1] == "x"


def test_reading_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with refused("checkpoint.unreadable", RunError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "mark").exists()
