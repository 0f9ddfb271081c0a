"""Hydra's command-line options, checked before Hydra's argparse, which would answer with its usage text."""

from __future__ import annotations

from collections.abc import Iterable

from foundation.structures import InputError
from resmet.cli.conf_files import suggest

OPTIONS = (
    dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"), False)
    | dict.fromkeys(("--shell-completion", "-sc"), False)
    | dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), True)
    | dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"), True)
)
"""{option: whether a value follows}."""

MULTIRUN = ("-m", "--multirun")
CONFIG_DIR = ("-cd", "--config-dir")


def split_options(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the options, with their values, and the overrides. Hydra needs them in this order.

    Raises:
        InputError: For an option that Hydra does not have.
    """
    options: list[str] = []
    overrides: list[str] = []
    is_value = False
    for argument in arguments:
        is_option = not is_value and argument.startswith("-") and len(argument) > 1
        if is_option and argument.split("=")[0] not in OPTIONS:
            raise InputError("config.unknown_option", f"there is no option {argument}.{suggest(argument, OPTIONS)}")
        (options if is_option or is_value else overrides).append(argument)
        is_value = is_option and "=" not in argument and OPTIONS[argument]
    return options, overrides
