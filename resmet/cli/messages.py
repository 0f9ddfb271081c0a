"""Messages for what Hydra, OmegaConf or this project refused: what is wrong, what is allowed, and the error's code."""

from __future__ import annotations

import re

from hydra.errors import OverrideParseException

from foundation.structures import CodedError, InputError
from resmet.cli.conf_files import CONF, choices, known_keys, suggest
from resmet.cli.validate import key_of_another_choice, unknown_key


def message_of(error: Exception, name: str) -> str:
    """Returns one line for an error of the command `name`: what is wrong, what is allowed, and in brackets its code."""
    coded = translate(error, name)
    return f"{coded} [{coded.code}]"


def translate(error: Exception, name: str) -> CodedError:
    """Returns the error, with this project's words and a code if it is Hydra's or OmegaConf's."""
    if isinstance(error, CodedError):
        return error
    text = str(error).strip()
    if option := re.search(r"Could not find '([^']+)'", text):
        group, _, choice = option[1].rpartition("/")
        return unknown_choice(group, choice)
    if key := re.search(r"Could not override '([^']+)'", text) or (
        "not in struct" in text and re.search(r"full_key: (\S+)", text)
    ):
        return unusable_key(key[1].split("@")[0], name)
    if isinstance(error, OverrideParseException):
        return not_an_override(error.override)
    return InputError("config.invalid", " ".join(line.strip() for line in text.splitlines()[:2]))


def unknown_choice(group: str, choice: str) -> InputError:
    options = choices(group)
    nearest = suggest(choice, options).partition(" Allowed")[0]
    allowed = f"{nearest and nearest + '.'} Allowed: {', '.join(options)}"
    return InputError("config.unknown_choice", f"{group}={choice}: there is no such choice.{allowed}")


def unusable_key(key: str, name: str) -> InputError:
    """Returns the error for a key that could not be set: it does not exist, or another choice has it."""
    known = known_keys(name)
    return key_of_another_choice(key) if key in known else unknown_key(key, known)


def not_an_override(text: str) -> InputError:
    return InputError("config.invalid_override", f"{text} is not understood: write key=value, or group=choice")


def invalid_value(overrides: list[str], error: Exception) -> InputError:
    """Returns the error for overrides that Hydra answers with a bare ValueError, such as a group set to a number or null."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key and (CONF / key).is_dir() and value not in choices(key):
            return unknown_choice(key, value)
    return not_an_override(f"{' '.join(overrides)} ({error})")
