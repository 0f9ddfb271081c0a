"""The config of a run that is resumed: its own, except for what may change, such as the machine and the number of epochs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from foundation.storage.safe_load import read_yaml, refuse_references
from foundation.structures import InputError
from resmet.checkpoints.layout import has_checkpoint
from resmet.cli.conf_files import groups
from resmet.cli.hydra_state import to_plain
from resmet.cli.validate import check, unknown_key
from resmet.renamed import convert_config

AUTO = "auto"

PLACEMENT = ("accelerator", "devices", "num_nodes", "strategy")
"""Keys of ``trainer=`` that say where a run runs, rather than what it learns."""

FREE_OF_TRAINER = (*PLACEMENT, "max_epochs", "check_val_every_n_epoch", "precision")
FREE = (*(f"trainer.{key}" for key in FREE_OF_TRAINER), "callbacks", "logger", "run_dir", "resume", "checkpoint_every")
FREE_OF_DATA = ("root", "num_workers", "cache", "on_error")
"""What may change: the machine and its paths, the length of the run, and whether an unreadable file ends it."""


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments for Hydra, and the changes to the config of the run that is resumed.

    The latter are keys of the run's own choices, which the default choices, composed by Hydra, may not have.
    """
    if not any(word.startswith("resume=") and word[7:] not in ("", "null", AUTO) for word in arguments):
        return arguments, []
    chosen = groups("train") | {"experiment"}
    choices = [a for a in arguments if "=" not in a or a.startswith(("resume=", "-")) or a.split("=")[0] in chosen]
    return choices, [argument for argument in arguments if argument not in choices]


def reopen(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """Returns the config of the run to resume, changed by the command line, and its folder.

    Raises:
        InputError: If there is no run to resume, or the command line asks for another one.
    """
    folder = run_of(Path(cfg.resume))
    if not (folder / "config.yaml").is_file():
        raise InputError("run_dir.not_a_run", f"resume={folder} is no run folder: it has no config.yaml")
    if not has_checkpoint(folder):
        refuse_finished(folder)
        raise InputError(
            "run_dir.no_checkpoint",
            f"resume={folder}: that run ended before its first checkpoint (last.ckpt) was written: start again with another run_dir, "
            f"or here with the overrides of its start and run_dir={folder} resume=auto",
        )
    saved: Any = read_config(folder)
    proposed = override(apply_choices(saved, cfg), split_overrides(sys.argv[1:])[1])
    proposed.resume, proposed.run_dir = str(folder), None
    refuse_other_run(flat(saved), flat(proposed), folder)
    check(to_plain(proposed), "train")
    return proposed, folder


def run_of(path: Path) -> Path:
    """Returns the run folder that `path` is, or whose ``checkpoints`` or ``last.ckpt`` it is.

    Raises:
        InputError: If it is another checkpoint; a run resumes from its last one.
    """
    if path.name == "checkpoints" and (path.parent / "config.yaml").is_file():
        return path.parent
    if path.suffix != ".ckpt" or path.is_dir():
        return path
    folder = path.absolute().parent.parent if path.parent == Path() else path.parent.parent
    if path.name != "last.ckpt":
        text = f"resume={path} is no run folder, and a run resumes from its last.ckpt only: use resume={folder}"
        raise InputError("run_dir.not_last_checkpoint", text)
    return folder


def refuse_finished(folder: Path) -> None:
    """Refuses to start again a run that finished and whose checkpoints are gone: that would overwrite its results.

    Raises:
        InputError: Naming what is there.
    """
    if (folder / "metrics.json").is_file():
        raise InputError(
            "run_dir.checkpoint_lost",
            f"{folder} holds a finished run (metrics.json) whose last.ckpt is gone: there is nothing to resume from; "
            "name another run_dir to train again",
        )


def read_config(folder: Path) -> DictConfig:
    """Reads a run's ``config.yaml`` as plain values, with present names; interpolations were resolved when it was written.

    Raises:
        InputError: If it can't be read, or holds an interpolation, which would look up something on this machine.
    """
    path = folder / "config.yaml"
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError("run_dir.unreadable_config", f"{path} can't be read (it has no keys): name another run_dir")
    refuse_references(content, str(path))
    return OmegaConf.create(convert_config(content))


def apply_choices(saved: DictConfig, cfg: DictConfig) -> DictConfig:
    """Returns `saved` with the groups that the command line chose."""
    named = {argument.split("=")[0] for argument in split_overrides(sys.argv[1:])[0]}
    proposed = saved.copy()
    for group in groups("train") if "experiment" in named else groups("train") & named:
        if group == "trainer":
            for key in PLACEMENT:
                proposed.trainer[key] = cfg.trainer[key]
        elif group in cfg:
            proposed[group] = OmegaConf.create(to_plain(cfg)[group])
    return proposed


def override(proposed: DictConfig, overrides: list[str]) -> DictConfig:
    """Returns `proposed` changed by every ``key=value`` of `overrides`.

    Raises:
        InputError: If the run has no such key.
    """
    known = set(walk(OmegaConf.to_container(proposed)))
    for parsed in OverridesParser.create().parse_overrides(overrides):
        key = parsed.key_or_group
        if parsed.is_delete() or key not in known:
            raise unknown_key(key, known)
        OmegaConf.update(proposed, key, parsed.value(), merge=True)
    return proposed


def same_run(cfg: DictConfig, folder: Path) -> bool:
    """Whether `folder` holds a run of this config, wherever it ran; False if its config can't be read."""
    try:
        return not differing_keys(flat(read_config(folder)), flat(cfg))
    except InputError:
        return False


def refuse_other_run(saved: dict[str, Any], proposed: dict[str, Any], folder: Path, remedy: str = "") -> None:
    """Refuses to resume `saved` as `proposed` where that is another run.

    Raises:
        InputError: Naming what differs, and `remedy`.
    """
    if fixed := differing_keys(saved, proposed):
        changes = ", ".join(f"{key} was {saved.get(key)!r}, is {proposed.get(key)!r}" for key in fixed[:5])
        weights = f"{folder}/checkpoints/best.ckpt"
        remedy = remedy or f"Leave that out to resume it, or start a new run with backbone.weights={weights}"
        raise InputError("run_dir.other_run", f"resume={folder} is another run: {changes}. {remedy}")


def differing_keys(saved: dict[str, Any], proposed: dict[str, Any]) -> list[str]:
    """Returns the keys whose values differ, without those that may change."""
    keys = [key for key in sorted(saved.keys() | proposed.keys()) if saved.get(key) != proposed.get(key)]
    free = tuple(f".{key}" for key in FREE_OF_DATA)
    return [key for key in keys if not key.startswith(FREE) and not (key.startswith("data.") and key.endswith(free))]


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Returns {dotted key: plain value} of all leaves; lists are leaves."""
    return {key: value for key, value in walk(to_plain(cfg)).items() if not isinstance(value, dict) or not value}


def walk(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {dotted key: value} of every node below `node`."""
    nodes: dict[str, Any] = {}
    for key, value in node.items():
        nodes[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            nodes |= walk(value, f"{prefix}{key}.")
    return nodes
