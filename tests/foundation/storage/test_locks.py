"""A folder has one owner at a time."""

import subprocess
import sys
from pathlib import Path

from foundation.storage.locks import try_lock

HOLD = "import sys, pathlib; from foundation.storage.locks import try_lock; print(try_lock(pathlib.Path(sys.argv[1])) is not None)"


def locks_elsewhere(folder: Path) -> bool:
    line = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_another_process_gets_a_folder_once_it_is_released(tmp_path: Path) -> None:
    held = try_lock(tmp_path)
    assert held is not None
    assert try_lock(tmp_path) is None
    assert not locks_elsewhere(tmp_path)
    held.release()
    assert locks_elsewhere(tmp_path)
    assert try_lock(tmp_path) is not None
