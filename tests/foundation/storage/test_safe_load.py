"""Reading untrusted files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.storage.safe_load import read_json, read_yaml


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_text_is_utf_8_with_or_without_a_bom(read: Callable[[Path], Any], tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a").write_text('{"name": "Müll"}', encoding=encoding)
        assert read(tmp_path / "a") == {"name": "Müll"}
