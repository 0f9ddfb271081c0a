"""The description of data in a checkpoint."""

from typing import Any

import pytest
from refusals import refused

from foundation.structures import Spec


@pytest.mark.parametrize("values", [[], None, {"parts": 3}, {"parts": {"a": []}}, {"class_names": 3}, {"unknown": 1}])
def test_a_malformed_spec_is_refused(values: Any) -> None:
    with refused("checkpoint.invalid_spec"):
        Spec.from_dict(values)
