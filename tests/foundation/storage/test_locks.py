"""One process at a time locks a folder."""

import subprocess
import sys
from pathlib import Path

from foundation.storage.locks import try_lock

LOCK = "import sys, pathlib; from foundation.storage.locks import try_lock; print(try_lock(pathlib.Path(sys.argv[1])) is not None)"


def locks_in_another_process(folder: Path) -> bool:
    line = [sys.executable, "-c", LOCK, str(folder)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_another_process_gets_a_folder_once_it_is_released(tmp_path: Path) -> None:
    lock = try_lock(tmp_path)
    assert lock is not None
    assert try_lock(tmp_path) is None
    assert not locks_in_another_process(tmp_path)
    lock.release()
    assert locks_in_another_process(tmp_path)
    assert try_lock(tmp_path) is not None
