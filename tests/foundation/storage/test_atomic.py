"""Files and folders are written completely or not at all."""

from pathlib import Path

import pytest

from foundation.storage.atomic import atomic_folder, atomic_open, write_json, write_text, write_text_or_warn


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def fail() -> None:
        with atomic_open(tmp_path / "a") as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_the_target_is_replaced_at_the_end(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with atomic_open(tmp_path / "a", sync_folder=True) as file:
        file.write(b"new")
        assert (tmp_path / "a").read_text() == "old"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with atomic_open(tmp_path / "a") as one, atomic_open(tmp_path / "a") as other:
        one.write(b"one")
        other.write(b"other")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "one")]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"a": 1})
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_failed_write_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_text_or_warn(tmp_path / "absent" / "a", "text")
    assert str(tmp_path / "absent" / "a") in caplog.text


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "set") as part:
            (part / "a").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "set") as part:
        (part / "a").touch()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a"]
    assert len(list(tmp_path.iterdir())) == 1
