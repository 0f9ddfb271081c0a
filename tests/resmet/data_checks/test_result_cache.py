"""What was seen once is not looked at again, unless it has changed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_files import write_image

from resmet.data_checks.run import inspect_items
from resmet.data_checks.run.result_cache import Memory, recall
from resmet.data_checks.scan.file_tree import fingerprint, read_tree

See = Callable[..., dict[str, Any]]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of items that were opened, as they are."""
    names: list[str] = []
    own = inspect_items.look

    def look(data: Any, item: Any, objects: bool) -> Any:
        names.append(Path(item.name).name)
        return own(data, item, objects)

    monkeypatch.setattr(inspect_items, "look", look)
    return names


def test_only_what_changed_is_looked_at(see: See, image_folder: Path, looked: list[str]) -> None:
    before = see(image_folder)
    assert len(looked) == 16
    looked.clear()
    write_image(image_folder / "train" / "dark" / "0.png", color=77)
    write_image(image_folder / "train" / "dark" / "new.png", color=78)
    after = see(image_folder)
    assert sorted(looked) == ["0.png", "new.png"]
    assert after["splits"]["train"]["items"] + after["splits"]["val"]["items"] == 13
    assert before["findings"] != after["findings"]


def test_other_settings_are_another_look(see: See, image_folder: Path, looked: list[str]) -> None:
    see(image_folder)
    looked.clear()
    see(image_folder, size=16)
    assert len(looked) == 16


def test_without_a_cache_nothing_fails(see: See, image_folder: Path, cache: Path, looked: list[str]) -> None:
    cache.write_text("a file where the folder should be")
    assert see(image_folder)["splits"] == see(image_folder)["splits"]
    assert len(looked) == 32


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00 cut"])
def test_a_broken_cache_is_no_trouble(see: See, image_folder: Path, content: bytes) -> None:
    memory = Memory(image_folder)
    memory.path.parent.mkdir(parents=True)
    memory.path.write_bytes(content)
    assert see(image_folder)["splits"]["test"]["items"] == 4
    assert recall([str(image_folder)]) is None or content == b""


def test_an_answer_holds_while_nothing_changes(see: See, image_folder: Path, tmp_path: Path) -> None:
    assert recall([str(image_folder)]) is None
    report = see(image_folder)
    answer = recall([str(image_folder)])
    assert answer is not None
    assert answer["data"] == {key: value for key, value in report.items() if key != "refusal"}
    copied = recall([str(image_folder), "json=other.json"])  # where a copy goes is no other question
    assert copied == answer | {"json": "other.json"}
    (tmp_path / "sheet.png").unlink()
    assert recall([str(image_folder)]) is None


def test_a_refusal_is_remembered_too(see: See, tmp_path: Path) -> None:
    write_image(tmp_path / "heap" / "1.png")
    refusal = see(tmp_path / "heap")["refusal"]
    answer = recall([str(tmp_path / "heap")])
    assert answer is not None
    assert answer["refusal"] == refusal != ""


@pytest.mark.parametrize("change", ["content", "time", "new", "gone"])
def test_any_change_is_seen(tmp_path: Path, change: str) -> None:
    root = tmp_path / "tree"
    (root / "a").mkdir(parents=True)
    file = root / "a" / "1.txt"
    file.write_text("one")
    os.utime(file, (1, 1))
    before = fingerprint(read_tree(root))
    if change == "content":
        file.write_text("other")
        os.utime(file, (1, 1))
    elif change == "time":
        os.utime(file, (2, 2))
    elif change == "new":
        (root / "b").touch()
    else:
        file.unlink()
    assert fingerprint(read_tree(root)) != before


def test_hidden_files_links_in_circles_and_own_output(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "a").mkdir(parents=True)
    for name in ("a/1.txt", ".hidden", "sheet.png"):
        (root / name).touch()
    (root / "a" / "circle").symlink_to(root)
    assert list(read_tree(root, [root / "sheet.png"])) == ["a/1.txt"]
