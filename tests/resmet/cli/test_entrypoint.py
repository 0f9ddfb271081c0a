"""The errors and exit codes of commands."""

import os
import sys
from collections.abc import Sequence

import pytest

from resmet.cli.entrypoint import command


def test_an_error_inside_a_sweep_is_not_taken_for_one_of_its_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep(argv: Sequence[str]) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1"])
    with pytest.raises(ValueError, match="a bug"):
        command("train", lambda cfg: None, sweep)


def test_an_override_that_hydra_answers_with_a_value_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "=3"])
    with pytest.raises(SystemExit) as exit_code:
        command("train", lambda cfg: None)
    assert exit_code.value.code == 2
    assert "[config.invalid_override]" in capsys.readouterr().err
    assert "HYDRA_FULL_ERROR" not in os.environ
