"""Hydra's command-line options, checked before Hydra's argparse, which would answer with its usage text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def check_options(arguments: Sequence[str], name: str) -> None:
    """Checks that Hydra has every option, and that no option stands among the overrides.

    Raises:
        InputError: Naming the option and the nearest ones, or the order that is understood.
    """
    kinds: list[str] = []  # "option" or "override", one entry for several of a kind in a row
    options: list[str] = []
    for argument, is_option in marked(arguments):
        options += [argument] if is_option else []
        kind = "option" if is_option else "override"
        if kinds[-1:] != [kind]:
            kinds.append(kind)
    if kinds.count("override") > 1:
        ordered = " ".join(options + [argument for argument in arguments if argument not in options])
        raise InputError("config.option_order", f"options come before all overrides: {name}.py {ordered}")


def marked(arguments: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yields every argument with whether it is an option, or the value of one.

    Raises:
        InputError: For an option that Hydra does not have.
    """
    is_value = False
    for argument in arguments:
        is_option = not is_value and argument.startswith("-") and len(argument) > 1
        if is_option and argument.split("=")[0] not in OPTIONS:
            raise InputError("config.unknown_option", f"there is no option {argument}.{suggest(argument, OPTIONS)}")
        yield argument, is_option or is_value
        is_value = is_option and "=" not in argument and OPTIONS[argument]
