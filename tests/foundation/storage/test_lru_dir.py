"""A folder with a limit on its size."""

import os
from pathlib import Path

from foundation.storage.lru_dir import LruDir


def files(folder: Path, count: int = 4, size: int = 10) -> list[Path]:
    paths = [folder / "set" / f"{number}.items" for number in range(count)]
    paths[0].parent.mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        path.write_bytes(bytes(size))
        os.utime(path, (number, number))
    return paths


def test_the_least_recently_used_files_are_deleted(tmp_path: Path) -> None:
    paths, lru = files(tmp_path), LruDir(tmp_path, ".items")
    lru.touch(paths[0])
    assert lru.make_room(15, 40) == 20
    assert [path for path in paths if path.exists()] == [paths[0], paths[3]]
    assert lru.size() == 20


def test_files_in_use_are_not_deleted(tmp_path: Path) -> None:
    paths, lru = files(tmp_path), LruDir(tmp_path, ".items")
    assert lru.make_room(40, 40, keep=paths[:3]) == 10
    assert [path for path in paths if path.exists()] == paths[:3]


def test_only_stale_unfinished_files_are_deleted(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".a.part", ".b.part", "c.txt"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    LruDir(tmp_path, ".items").make_room(1, 0)
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_an_absent_folder_is_empty(tmp_path: Path) -> None:
    assert LruDir(tmp_path / "absent", ".items").make_room(5, 10) == 10
