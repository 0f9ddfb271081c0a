"""Limits what a folder given by ``--config-dir`` may contain: choices for the groups, and nothing of how Hydra itself runs.

Hydra instantiates its callbacks, launcher, sweeper and log handlers from whatever class its own section of a config names, before
this project sees the config. In a file from elsewhere that would be a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from foundation.structures import InputError
from resmet.cli.conf_files import CONF
from resmet.cli.options import CONFIG_DIR

OTHER_CONFIG = ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
INSTANTIATED = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging", "job")
"""Sections of Hydra's own config that name classes, or set the environment (``job.env_set``)."""


def check_config_dir(arguments: Sequence[str], name: str) -> None:
    """Checks that a folder of configs changes no more of Hydra's own config than the command line itself does.

    Raises:
        InputError: Naming what it changes; or for an option that replaces the config, or unpickles one.
        HydraException: If there is no such choice.
    """
    if option := next((argument for argument in arguments if argument.split("=")[0] in OTHER_CONFIG), None):
        text = f"{option}: the config is conf/{name}.yaml: add choices to it by --config-dir=DIR instead"
        raise InputError("config.foreign_config", text)
    folders = config_dirs(arguments)
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    search_path = [override for override in overrides if override.lstrip("+").startswith("hydra.searchpath=")]
    if not folders and not search_path:
        return
    hydra_overrides = [
        override for override in overrides if override.lstrip("+~").startswith(("hydra.", "hydra/", "hydra@"))
    ]
    added = [] if search_path else [search_path_of(folders)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        theirs = hydra_sections(name, [*overrides, *added])
        ours = hydra_sections(name, [override for override in hydra_overrides if override not in search_path])
    for key in INSTANTIATED:
        if theirs[key] != ours[key]:
            source = ", ".join(folders) or search_path[0]
            text = f"hydra.{key} is set by a file of {source}: only the command line may"
            raise InputError("config.hydra_section", text)


def config_dirs(arguments: Sequence[str]) -> list[str]:
    """Returns the folders that ``--config-dir`` names."""
    folders: list[str] = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        option, equals, folder = argument.partition("=")
        if option in CONFIG_DIR and (folder if equals else following):
            folders.append(folder if equals else following)
    return folders


def search_path_of(folders: Sequence[str]) -> str:
    """Returns the override that adds `folders` to Hydra's search path."""
    return f"hydra.searchpath=[{','.join(f'file://{Path(folder).resolve()}' for folder in folders)}]"


def hydra_sections(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns what Hydra would instantiate of its own config, as plain values with interpolations unresolved."""
    config = compose(name, list(overrides), return_hydra_config=True)
    node: Any = OmegaConf.to_container(config.hydra, resolve=False)
    job = {key: value for key, value in node["job"].items() if key in ("env_set", "env_copy", "chdir")}
    return {key: job if key == "job" else node[key] for key in INSTANTIATED}
