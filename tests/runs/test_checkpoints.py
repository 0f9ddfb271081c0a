"""A checkpoint is written whole or not at all, and read without running code."""

from pathlib import Path

import pytest
import torch

from runs.checkpoints import WholeFiles


def test_a_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch) -> None:
    path, io = tmp_path / "last.ckpt", WholeFiles()
    io.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def full(content: object, file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_reading_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="weights_only|Unsupported|Weights only"):
        WholeFiles().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "mark").exists()
