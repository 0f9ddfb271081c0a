"""Spans of time in words."""

import subprocess
import sys
import time

import pytest

from foundation.durations import Crowding, clock, seconds, since_start
from foundation.structures import InputError


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("8m", 480), ("1.5h", 5400), (" 2m ", 120)])
def test_spans(text: str, value: float) -> None:
    assert seconds(text, "budget", "time for a run") == value


@pytest.mark.parametrize("text", ["8x", "0s", "m", "-3m", "8", "", "1e3s"])
def test_what_is_no_span_is_said(text: str) -> None:
    with pytest.raises(InputError, match=r"budget=.* is no time for a run: say 90s, 10m or 2h"):
        seconds(text, "budget", "time for a run")


def test_the_time_on_a_clock() -> None:
    assert [clock(span) for span in (-1, 41, 599.6, 3723)] == ["0:00", "0:41", "10:00", "1:02:03"]


def test_the_time_since_the_start_is_that_of_this_process() -> None:
    code = "import time; time.sleep(0.5); from foundation.durations import since_start; print(since_start())"
    began = time.monotonic()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0.5 <= float(said) <= time.monotonic() - began + 0.02
    assert since_start() > 0


def test_a_crowd_is_never_less_than_alone() -> None:
    assert Crowding().now() >= 1
