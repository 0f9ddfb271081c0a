"""Refusals compared by their code rather than by their wording."""

from typing import Any

import pytest

from foundation.structures import CodedError, InputError


def refused(code: str, kind: type[CodedError] = InputError) -> Any:
    """A ``pytest.raises`` for an error of `kind` with exactly this code; ``a.b|c.d`` accepts either."""
    return pytest.raises(kind, check=lambda error: error.code in code.split("|"))
