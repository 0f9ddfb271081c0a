"""Durations as text, and the clock of a run."""

import subprocess
import sys
import time

import pytest
from refusals import refused

from foundation.durations import Clock, format_seconds, seconds


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("8m", 480), ("1.5h", 5400), (" 2m ", 120)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text, "time_budget") == value


@pytest.mark.parametrize("text", ["8x", "0s", "m", "-3m", "8", "", "1e3s"])
def test_anything_else_is_refused(text: str) -> None:
    with refused("config.invalid_duration"):
        seconds(text, "time_budget")


def test_seconds_are_shown_as_on_a_clock() -> None:
    assert [format_seconds(number) for number in (-1, 41, 599.6, 3723)] == ["0:00", "0:41", "10:00", "1:02:03"]


def test_the_age_is_that_of_the_process() -> None:
    """A child process is younger."""
    code = "import time; time.sleep(0.3); from foundation.durations import Clock; print(Clock().process_age())"
    age = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0.3 <= float(age) < Clock().process_age()


def test_contention_is_at_least_one() -> None:
    clock = Clock()
    assert clock.cpu_contention() >= 1
    assert clock.now() <= time.monotonic()
