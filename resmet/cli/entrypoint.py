"""The entry point of every command: composes the config, checks it, runs the command, and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from foundation.parallel import rendezvous
from foundation.parallel.rank_zero import rank
from foundation.storage.safe_load import printable
from foundation.structures import InputError, RunError
from resmet.cli.conf_files import CONF
from resmet.cli.config_dir import check_config_dir
from resmet.cli.exit_codes import FAILURE, INTERRUPTED, INVALID_REQUEST, SUCCESS
from resmet.cli.hydra_state import hide_shared_files, multirun_label, to_plain
from resmet.cli.messages import invalid_value, message_of
from resmet.cli.options import split_options
from resmet.cli.saved_config import AUTO, split_overrides
from resmet.cli.validate import check

Main = Callable[[DictConfig], None]
FULL_ERROR = "HYDRA_FULL_ERROR"


def command(name: str, main: Main, dispatch: Callable[[Sequence[str]], int | None] | None = None) -> NoReturn:
    """Runs `main` with the config ``conf/<name>.yaml`` and exits with its exit code.

    0 success; 1 the program failed; 2 what was asked can't be done (one message, no traceback); 130 and 143 after a signal.
    ``HYDRA_FULL_ERROR=1`` shows the traceback of such a message too.
    `dispatch` is called first with ``sys.argv``: it handles the command line itself and returns an exit code, or returns None.
    """
    invocation = Invocation(name, main)
    try:
        if dispatch and (code := dispatch(sys.argv)) is not None:
            sys.exit(code)
        if config := rendezvous.inherited("config"):
            invocation.run(OmegaConf.create(config))  # type: ignore[arg-type]
        else:
            invocation.compose()
    except (HydraException, OmegaConfBaseException, InputError) as error:
        invocation.refuse(error)
    except KeyboardInterrupt:
        invocation.exit_code = INTERRUPTED
    sys.exit(invocation.exit_code)


class Invocation:
    """One invocation of a command: its arguments and its exit code."""

    def __init__(self, name: str, main: Main) -> None:
        self.name, self.main = name, main
        self.arguments = sys.argv[:]
        self.exit_code = SUCCESS
        self.full_error = os.environ.get(FULL_ERROR) == "1"

    def compose(self) -> None:
        """Lets Hydra compose the config, and its multirun if it was asked for, and runs each."""
        options, overrides = split_options(sys.argv[1:])
        check_config_dir(sys.argv[1:], self.name)
        hide_shared_files()
        sys.argv[1:] = split_overrides([*options, *overrides])[0]
        os.environ[FULL_ERROR] = "1"  # Hydra raises errors rather than printing them
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=self.name)(self.check_and_run)()
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            raise invalid_value(self.arguments[1:], error) from error  # Hydra's, for an override such as =3
        finally:
            self.restore_environment()

    def check_and_run(self, cfg: DictConfig) -> None:
        sys.argv[:] = self.arguments
        self.restore_environment()  # processes that a run starts would inherit it
        self.run(cfg, composed=True)

    def restore_environment(self) -> None:
        if not self.full_error:
            os.environ.pop(FULL_ERROR, None)

    def run(self, cfg: DictConfig, composed: bool = False) -> None:
        """Runs the command. An error becomes its exit code, so that the other runs of a multirun follow."""
        try:
            if composed and cfg.get("resume") in (None, AUTO):  # else it is the resumed run's, checked where it is read
                check(to_plain(cfg), self.name)
            if composed:
                rendezvous.shared("config", lambda: OmegaConf.to_yaml(cfg, resolve=True))
            self.main(cfg)
        except (InputError, InterpolationResolutionError) as error:
            self.refuse(error)
        except RunError as error:
            self.exit_code = FAILURE
            self.report(message_of(error, self.name))
        except Exception:
            self.exit_code = FAILURE
            traceback.print_exc()

    def refuse(self, error: Exception) -> None:
        self.exit_code = self.exit_code or INVALID_REQUEST
        self.report(message_of(error, self.name))

    def report(self, message: str) -> None:
        """Prints a message once for all processes of a run."""
        if self.full_error:
            traceback.print_exc()
        if rendezvous.prints_errors():
            of_rank = f"rank {rank()}: " if rank() else ""
            print(printable(f"{self.name}.py: {multirun_label()}{of_rank}{message}"), file=sys.stderr)
