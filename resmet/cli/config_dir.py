"""What a folder given by ``--config-dir`` may say: choices for the groups, and nothing of how Hydra itself runs.

Hydra builds its callbacks, launcher, sweeper and log handlers itself, from whatever class its own part of a config names, before a
config of ours is looked at. In a file from elsewhere that would be a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from foundation.structures import InputError
from resmet.cli.schema import CONF

DIRS, ELSEWHERE = ("--config-dir", "-cd"), ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
BUILT = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging", "job")
"""The parts of Hydra's own config that name classes, or set the environment (``job.env_set``)."""


def refuse_borrowed(words: Sequence[str], name: str) -> None:
    """Refuse a folder of configs that changes more than the command line itself says.

    Raises:
        InputError: Naming what it changes; or for an option that puts another config, or a pickled one, in place of ours.
        HydraException: If there is no such choice.
    """
    if option := next((word for word in words if word.split("=")[0] in ELSEWHERE), None):
        raise InputError(f"{option}: the config is conf/{name}.yaml: add choices to it by --config-dir=DIR instead")
    folders = [place for i, word in enumerate(words) if (place := folder_in(word, words[i + 1 : i + 2]))]
    said = [word for word in words if "=" in word and not word.startswith("-")]
    own = [word for word in said if word.lstrip("+~").startswith(("hydra.", "hydra/", "hydra@"))]
    paths = [word for word in own if word.lstrip("+").startswith("hydra.searchpath=")]
    if not folders and not paths:
        return
    own = [word for word in own if word not in paths]
    if folders and not paths:
        paths = [f"hydra.searchpath=[{','.join(f'file://{Path(folder).resolve()}' for folder in folders)}]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        theirs, ours = parts(name, [*said, *paths] if folders else said), parts(name, own)
    for key in BUILT:
        if theirs[key] != ours[key]:
            raise InputError(
                f"hydra.{key} is set by a file of {', '.join(folders) or paths[0]}: only the command line may"
            )


def folder_in(word: str, following: Sequence[str]) -> str:
    """The folder that an option names, behind ``=`` or as the next word; "" for any other word."""
    option, mark, place = word.partition("=")
    return "" if option not in DIRS else place if mark else "".join(following)


def parts(name: str, words: Sequence[str]) -> dict[str, Any]:
    """What would be built of Hydra's own config, as plain values that are not looked up."""
    config = compose(name, list(words), return_hydra_config=True)
    node: Any = OmegaConf.to_container(config.hydra, resolve=False)
    job = {key: value for key, value in node["job"].items() if key in ("env_set", "env_copy", "chdir")}
    return {key: job if key == "job" else node[key] for key in BUILT}
