"""Disks that are full, folders that can't be written to, files that are cut, writes that are killed."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.drills.runner import Outcome, differences, end, log_of, start, wait_until


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own with so much room; needs the right to mount."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full_disk(kind: str, whole: Path, place: Path) -> Outcome:
    """The disk fills up while the run trains; it says so, trains on, and saves again as soon as there is room."""
    with small_disk(place / "full", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        fill(disk)
        wait_until(process, folder, "could not be written")
        said = "the run goes on" in log_of(folder).read_text()
        (disk / "filler").unlink()
        code = process.wait()
        equal = code == 0 and said and not differences(whole, folder)
        return Outcome("disk full, then freed", kind, 1, int(equal), 1, "nothing")


def full_to_the_end(kind: str, whole: Path, place: Path) -> Outcome:
    """The disk stays full until the run is over: it ends with 1, and goes on once there is room."""
    with small_disk(place / "stuck", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        while process.poll() is None:  # also what is freed
            fill(disk)
            time.sleep(0.02)
        code = process.wait()
        (disk / "filler").unlink()
        end(kind, folder)
        equal = code == 1 and not differences(whole, folder)
        return Outcome("disk full to the end", kind, 1, int(equal), 1, "time since the last checkpoint")


def fill(disk: Path) -> None:
    """Take all the room that there is."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return


def read_only(kind: str, whole: Path, place: Path) -> Outcome:
    """The file system turns read-only and back."""
    with small_disk(place / "locked", 160) as disk:
        folder = disk / "run"
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "epoch 1/")
        stubborn = subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True)
        if stubborn.returncode:  # files are open for writing: hide the folder instead
            (folder / "checkpoints").rename(folder / "away")
            (folder / "checkpoints").write_text("no folder")
        wait_until(process, folder, "could not be written")
        if stubborn.returncode:
            (folder / "checkpoints").unlink()
            (folder / "away").rename(folder / "checkpoints")
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        equal = process.wait() == 0 and not differences(whole, folder)
        return Outcome("folder not writable, then writable", kind, 1, int(equal), 1, "nothing")


def killed_while_saving(kind: str, whole: Path, place: Path, times: int = 5) -> Outcome:
    """The process is killed while a checkpoint is half written."""
    folder, struck = place / "saving", 0
    for _ in range(times):
        process = start(kind, folder, "checkpoint_every=0.05s")
        part = folder / "checkpoints" / ".last.ckpt.part"
        wait_until(process, folder, "run: ")
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            if part.exists():
                process.kill()
                break
        struck += process.wait() == -9 and part.exists()
    end(kind, folder)
    equal = not differences(whole, folder)
    return Outcome("kill -9 within a save", kind, struck, int(equal), 1, "time since the last checkpoint")


def cut_checkpoint(kind: str, whole: Path, place: Path) -> Outcome:
    """last.ckpt loses its second half; the one before it is taken."""
    folder = place / "cut"
    process = start(kind, folder, "checkpoint_every=0.3s")
    wait_until(process, folder, "epoch 3/")
    process.kill()
    process.wait()
    last = folder / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    end(kind, folder)
    said = "goes on from previous-1.ckpt" in log_of(folder).read_text()
    equal = said and not differences(whole, folder)
    return Outcome("last.ckpt cut in half", kind, 1, int(equal), 1, "time since the checkpoint before")
