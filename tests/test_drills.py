"""A short form of the drills; python -m tests.drills runs all of them."""

import random
from pathlib import Path

import pytest

from tests.drills.disks import truncated_checkpoint
from tests.drills.runner import differences, kill_at_random, run_uninterrupted

pytestmark = pytest.mark.slow


def test_killed_at_random_moments(tmp_path: Path) -> None:
    place = tmp_path / "audio"
    place.mkdir()
    span = run_uninterrupted("audio", place / "uninterrupted")
    kill_at_random("audio", place / "killed", 2, span, random.Random(0))
    assert differences(place / "uninterrupted", place / "killed") == []
    outcome = truncated_checkpoint("audio", place / "uninterrupted", place)
    assert outcome.equal == outcome.runs
