"""Values in the grammar of Hydra's command line. Source: hydra.cc/docs/advanced/override_grammar/basic."""

from __future__ import annotations

import re
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

UNQUOTED = re.compile(r"[\w./:@%+-]+", re.ASCII)
"""Text that needs no quotes, unless it reads as another type."""

OTHER_TYPES = re.compile(r"null|true|false|[+-]?(nan|inf|[\d_.]+(e[+-]?\d+)?)", re.IGNORECASE)
"""Text that Hydra would read as null, a boolean or a number."""


def format_value(value: Any) -> str:
    """Returns a plain value (text, number, list or dict) as Hydra's command line takes it; the shell's quotes come on top."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(format_value, value)) + "]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if UNQUOTED.fullmatch(value) and not OTHER_TYPES.fullmatch(value):
        return value
    return QuotedString(value, Quote.single).with_quotes()
