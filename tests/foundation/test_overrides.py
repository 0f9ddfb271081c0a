"""Values that survive Hydra's command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from foundation.overrides import format_value

PARSER = OverridesParser.create()
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.sampled_from(
    ["1e5", "null", "True", "-3", "nan", "a\\", "it's", "\\'"]
)
PLAIN = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"[a-z]+[0-9]", fullmatch=True), inner),
    max_leaves=8,
)


@pytest.mark.slow
@given(PLAIN)
def test_hydra_reads_what_was_formatted(value: object) -> None:
    override = PARSER.parse_override(f"key={format_value(value)}")
    assert as_text(override.value()) == as_text(value)


@pytest.mark.parametrize("path", ["plain/0", "with space/1", "it's/(2)", "a,b={c}/3", "back\\slash'/4"])
def test_no_path_is_a_sweep(path: str) -> None:
    assert not PARSER.parse_override(f"run_dir={format_value(path)}").is_sweep_override()


def as_text(value: object) -> object:
    """Hydra's quoted strings as plain ones."""
    if isinstance(value, dict):
        return {str(key): as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_text(inner) for inner in value]
    return getattr(value, "text", value)
