"""The door that every script goes through: compose the config, check it, run, and turn what went wrong into an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.parallel import rendezvous
from foundation.storage.safe_load import printable
from foundation.structures import InputError, RunError
from resmet.cli.config_dir import refuse_borrowed
from resmet.cli.saved_config import AUTO, divide
from resmet.cli.validate import CONF, check, choices, known_keys, near, owners, unknown_key

OPTIONS = (
    dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"), False)
    | dict.fromkeys(("--shell-completion", "-sc"), False)
    | dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), True)
    | dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"), True)
)
"""Hydra's options, and whether a value follows."""

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
TRACE = "HYDRA_FULL_ERROR"


def command(
    name: str, main: Callable[[DictConfig], None], dispatch: Callable[[Sequence[str]], int | None] | None = None
) -> NoReturn:
    """Run `main` with the config ``conf/<name>.yaml`` and leave with its exit code.

    `dispatch` comes first: it handles the command line itself and returns an exit code, or returns None.

    0 done; 1 the program failed; 2 what was asked can't be done (one message, no trace); 130 and 143 after a signal.
    ``HYDRA_FULL_ERROR=1`` shows the trace of a refusal too.
    """
    call = Call(name, main)
    try:
        if dispatch and (code := dispatch(sys.argv)) is not None:
            sys.exit(code)
        if rendezvous.rank() > 0:  # what the first process composed
            call.attempt(OmegaConf.create(rendezvous.hear("config")))  # type: ignore[arg-type]
        else:
            refuse_options(sys.argv[1:], name)
            refuse_borrowed(sys.argv[1:], name)
            sys.argv[1:] = divide(sys.argv[1:])[0]
            os.environ[TRACE] = "1"  # errors come to us rather than being printed by Hydra
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(call.check)()
    except (HydraException, OmegaConfBaseException, InputError) as error:
        call.refuse(error)
    except ValueError as error:  # Hydra's for a word such as =3
        call.refuse(InputError(explain_words(call.words[1:], error)))
    except KeyboardInterrupt:
        call.code = INTERRUPTED
    finally:  # also where a signal ends it
        if call.code == REFUSED:
            rendezvous.refused()
        rendezvous.say_goodbye()
    sys.exit(call.code)


class Call:
    """One call of a script: what it is asked to do, and how it ends.

    Args:
        name: The script.
        main: What it does with a config.
    """

    def __init__(self, name: str, main: Callable[[DictConfig], None]) -> None:
        self.name, self.main = name, main
        self.words = sys.argv[:]
        self.code = DONE
        self.trace = os.environ.get(TRACE) == "1"

    def check(self, cfg: DictConfig) -> None:
        """Refuse a config that is not whole and right, else `attempt` it in all processes."""
        sys.argv[:] = self.words
        if not self.trace:
            os.environ.pop(TRACE, None)  # processes that a run starts would take it for the user's wish
        try:
            if cfg.get("resume") in (None, AUTO):  # else it is that of the run to go on with, checked where it is read
                check(plain(cfg), self.name)
        except InputError as error:
            self.refuse(error)
            return
        self.attempt(cfg, lambda: rendezvous.tell("config", OmegaConf.to_yaml(cfg, resolve=True)))

    def attempt(self, cfg: DictConfig, before: Callable[[], None] = lambda: None) -> None:
        try:
            before()
            self.main(cfg)
        except InputError as error:  # in a sweep, the other runs go on
            self.refuse(error)
        except RunError as error:
            self.code = FAILED
            self.say(f"{error} [{error.code}]")
        except Exception:
            self.code = FAILED
            traceback.print_exc()

    def refuse(self, error: Exception) -> None:
        self.code = self.code or REFUSED
        self.say(explain(error, self.name))

    def say(self, message: str) -> None:
        """One message from all processes of a run."""
        if self.trace:
            traceback.print_exc()
        if rendezvous.speaks():
            own = f"process {rendezvous.rank()}: " if rendezvous.rank() else ""
            print(printable(f"{self.name}.py: {which_job()}{own}{message}"), file=sys.stderr)


def plain(cfg: DictConfig) -> dict:
    """A config as plain values, interpolations resolved, what is missing as ``???``."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def sweep_folder() -> str | None:
    """Where this run of a sweep writes; None outside a sweep."""
    if not HydraConfig.initialized():  # a process that was told its config
        return None
    hydra_config = HydraConfig.get()
    return (
        hydra_config.runtime.output_dir
        if hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN"
        else None
    )


def explain(error: Exception, command: str) -> str:
    """One message for what Hydra, OmegaConf or we refused: what is wrong and what comes near."""
    text = str(error).strip()
    if isinstance(error, InputError):
        return f"{text} [{error.code}]"
    if option := re.search(r"Could not find '([^']+)'", text):
        group, _, choice = option[1].rpartition("/")
        options = choices(group)
        said = f"{group}={choice}: there is no such choice"
        close = near(choice, options).removesuffix(f" Allowed: {', '.join(options)}").strip()
        return ". ".join(part for part in (said, close, f"Allowed: {', '.join(options)}") if part)
    if key := re.search(r"Could not override '([^']+)'", text) or (
        "not in struct" in text and re.search(r"full_key: (\S+)", text)
    ):
        return explain_key(key[1].split("@")[0], command)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is not understood: say key=value, or group=choice"
    return " ".join(line.strip() for line in text.splitlines()[:2])


def refuse_options(words: list[str], name: str) -> None:
    """Refuse an option that Hydra does not have, and one among the words, which argparse answers with its usage.

    Raises:
        InputError: Naming the option, the nearest ones, or the order that is understood.
    """
    runs: list[str] = []  # o an option, w a word, alike neighbours as one
    options: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
            options.append(word)
            continue
        option = word.startswith("-") and len(word) > 1
        if option and word.split("=")[0] not in OPTIONS:
            raise InputError(f"there is no option {word}.{near(word, OPTIONS)}")
        skip = option and "=" not in word and OPTIONS[word]
        options += [word] if option else []
        if runs[-1:] != [kind := "o" if option else "w"]:
            runs.append(kind)
    if runs.count("w") > 1:
        ordered = options + [word for word in words if word not in options]
        raise InputError(f"options stand before all words: {name}.py {' '.join(ordered)}")


def explain_words(words: list[str], error: Exception) -> str:
    """Which of `words` Hydra could make nothing of; a group that was given a number or null, or all of them."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if (CONF / key).is_dir() and value not in (options := choices(key)):
            return f"{word}: there is no such choice. Allowed: {', '.join(options)}"
    return f"{' '.join(words)} is not understood ({error}): say key=value, or group=choice"


def explain_key(key: str, command: str) -> str:
    """Why a key could not be set."""
    known = known_keys(command)
    if key not in known:
        error = unknown_key(key, known)
        return f"{error} [{error.code}]"
    if having := owners(key):
        return f"{key} can't be set here: what is chosen does not have it; choose {' or '.join(having)}"
    return f"{key} can't be set here: what is chosen does not have it"


def which_job() -> str:
    """The run of a sweep that is spoken of, by its number and its words; nothing outside a sweep."""
    if not HydraConfig.initialized() or sweep_folder() is None:
        return ""
    hydra_config = HydraConfig.get()
    return f"run {hydra_config.job.num} ({' '.join(hydra_config.overrides.task)}): "
