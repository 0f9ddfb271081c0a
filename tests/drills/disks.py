"""Full disks, folders that are not writable, truncated checkpoints, and processes killed during a save."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.drills.runner import Outcome, differences, finish, log_of, start, wait_until


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Mounts a file system of that size; needs the permission to mount."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full_disk(kind: str, uninterrupted: Path, place: Path) -> Outcome:
    """The disk fills up and is freed again while the run trains; the run logs it, continues, and saves again."""
    with small_disk(place / "full", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        fill(disk)
        wait_until(process, folder, "could not be written")
        (disk / "filler").unlink()
        code = process.wait()
        equal = code == 0 and not differences(uninterrupted, folder)
        return Outcome("disk full, then freed", kind, 1, int(equal), 1, "nothing")


def full_to_the_end(kind: str, uninterrupted: Path, place: Path) -> Outcome:
    """The disk stays full until the training is over: the run exits with 1, and resumes once there is space."""
    with small_disk(place / "stuck", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        while process.poll() is None:  # also space that is freed meanwhile
            fill(disk)
            time.sleep(0.02)
        code = process.wait()
        (disk / "filler").unlink()
        finish(kind, folder)
        equal = code == 1 and not differences(uninterrupted, folder)
        return Outcome("disk full to the end", kind, 1, int(equal), 1, "time since the last checkpoint")


def fill(disk: Path) -> None:
    """Takes all free space."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return


def read_only(kind: str, uninterrupted: Path, place: Path) -> Outcome:
    """The file system becomes read-only and writable again."""
    with small_disk(place / "locked", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        refused = subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True)
        if refused.returncode:  # files are open for writing: replace the folder by a file instead
            (folder / "checkpoints").rename(folder / "away")
            (folder / "checkpoints").write_text("")
        wait_until(process, folder, "could not be written")
        if refused.returncode:
            (folder / "checkpoints").unlink()
            (folder / "away").rename(folder / "checkpoints")
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        equal = process.wait() == 0 and not differences(uninterrupted, folder)
        return Outcome("folder not writable, then writable", kind, 1, int(equal), 1, "nothing")


def killed_while_saving(kind: str, uninterrupted: Path, place: Path, times: int = 5) -> Outcome:
    """The process is killed while it writes a checkpoint."""
    folder, killed = place / "saving", 0
    for _ in range(times):
        process = start(kind, folder, "checkpoint_every=0.05s")
        wait_until(process, folder, "run: ")
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            if partial(folder):
                process.kill()
                break
        killed += process.wait() == -9 and partial(folder)
    finish(kind, folder)
    equal = not differences(uninterrupted, folder)
    return Outcome("SIGKILL during a save", kind, killed, int(equal), 1, "time since the last checkpoint")


def partial(folder: Path) -> bool:
    """Whether a checkpoint is being written, or was when its process was killed."""
    return any((folder / "checkpoints").glob(".last.ckpt.*.part"))


def truncated_checkpoint(kind: str, uninterrupted: Path, place: Path) -> Outcome:
    """``last.ckpt`` is truncated to half; the run resumes from the one before."""
    folder = place / "truncated"
    process = start(kind, folder, "checkpoint_every=0.3s")
    wait_until(process, folder, "epoch 3/")
    process.kill()
    process.wait()
    last = folder / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    finish(kind, folder)
    resumed = "resumes from previous-1.ckpt" in log_of(folder).read_text()
    equal = resumed and not differences(uninterrupted, folder)
    return Outcome("`last.ckpt` truncated to half", kind, 1, int(equal), 1, "time since the previous checkpoint")
