"""Rows run ``train.py`` in this process."""

from collections.abc import Iterator

import pytest
from small_runs import restored_log


@pytest.fixture(autouse=True)
def closed_log() -> Iterator[None]:
    with restored_log():
        yield
