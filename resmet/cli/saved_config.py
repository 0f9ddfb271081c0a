"""Which config a run is gone on with: its own, with what may differ on the machine where it goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from foundation.storage.safe_load import read_yaml, refuse_references
from foundation.structures import InputError
from resmet.cli.validate import check, groups, near

PLACEMENT = ("accelerator", "devices", "num_nodes", "strategy")
"""Keys of ``trainer=`` that say where a run runs, rather than what it learns."""

AUTO = "auto"

FREE_OF_TRAINER = (*PLACEMENT, "max_epochs", "every", "precision")
FREE = (*(f"trainer.{key}" for key in FREE_OF_TRAINER), "callbacks", "logger", "run_dir", "resume", "every")
FREE_OF_DATA = ("root", "num_workers", "cache", "on_error")
"""What may differ: the machine and its paths, for how long, and whether a file that breaks ends the run."""


def divide(words: list[str]) -> tuple[list[str], list[str]]:
    """A command line's words for Hydra, and the changes to the config of the run that is to be resumed.

    Such keys are the run's own: the default choices, which Hydra would compose, may not have them.
    """
    if not any(word.startswith("resume=") and word[7:] not in ("", "null", AUTO) for word in words):
        return words, []
    chosen = groups("train") | {"experiment"}
    stay = [w for w in words if "=" not in w or w.startswith(("resume=", "-")) or w.split("=")[0] in chosen]
    return stay, [word for word in words if word not in stay]


def reopen(cfg: DictConfig) -> tuple[DictConfig, Path]:
    """The config of the run to go on with, changed by the command line, and its folder.

    Raises:
        InputError: If there is no run to go on with, or the command line asks for another one.
    """
    folder = run_of(Path(cfg.resume))
    if not (folder / "config.yaml").is_file():
        raise InputError(f"resume={folder} is no run folder: it has no config.yaml")
    if not begun(folder):
        refuse_lost(folder)
        raise InputError(
            f"resume={folder}: that run died before its first checkpoint to go on from (last.ckpt) was whole: start anew with another run_dir, "
            f"or here by the words that began it and run_dir={folder} resume=auto"
        )
    saved: Any = read_config(folder)
    proposed = change(choose(saved, cfg), divide(sys.argv[1:])[1])
    proposed.resume, proposed.run_dir = str(folder), None
    refuse_another_run(flat(saved), flat(proposed), folder)
    check(OmegaConf.to_container(proposed), "train")  # type: ignore[arg-type]
    return proposed, folder


def run_of(path: Path) -> Path:
    """The run folder that `path` is, or whose ``last.ckpt`` it is.

    Raises:
        InputError: If it is another checkpoint; a run goes on from its last one.
    """
    if path.name == "checkpoints" and path.is_dir() and (path.parent / "config.yaml").is_file():
        return path.parent
    if path.suffix != ".ckpt" or path.is_dir():
        return path
    folder = path.absolute().parent.parent if path.parent == Path() else path.parent.parent
    if path.name != "last.ckpt":
        raise InputError(
            f"resume={path} is no run folder, and a run goes on from its last.ckpt alone: say resume={folder}"
        )
    return folder


def way_on(folder: Path) -> str:
    """What to do about a run that ended before its last checkpoint was on disk."""
    if begun(folder):
        return f"resume={folder}, which repeats what came after the checkpoint that is there"
    return f"start anew, since there is no checkpoint at all: the same command with run_dir={folder} resume=auto"


def refuse_lost(folder: Path) -> None:
    """Stop where a run was finished and its checkpoints are gone: beginning it anew would write over what it came to.

    Raises:
        InputError: Naming what is there.
    """
    if (folder / "metrics.json").is_file():
        raise InputError(
            f"{folder} holds a finished run (metrics.json) whose last.ckpt is gone: there is nothing to go on from; "
            "name another run_dir to train anew"
        )


def begun(folder: Path) -> bool:
    """Whether there is anything to go on from."""
    return any((folder / "checkpoints").glob("last.ckpt")) or any((folder / "checkpoints").glob("previous-*.ckpt"))


def read_config(folder: Path) -> DictConfig:
    """``config.yaml`` of a run, as plain values: what a run writes is resolved.

    Raises:
        InputError: If it can't be read, or holds what would be looked up here.
    """
    path = folder / "config.yaml"
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} can't be read (it has no keys): name another run_dir")
    refuse_references(content, str(path))
    return OmegaConf.create(content)


def same_run(cfg: DictConfig, folder: Path) -> bool:
    """Whether `folder` holds a run of this very config, wherever it ran.

    Raises:
        InputError: If its config can't be read.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return False
    saved = flat(read_config(folder))
    proposed = flat(cfg)
    return all(may_differ(key) for key in set(saved) | set(proposed) if saved.get(key) != proposed.get(key))


def choose(saved: DictConfig, cfg: DictConfig) -> DictConfig:
    """`saved` with the parts that the command line chose."""
    words = [word.split("=")[0] for word in divide(sys.argv[1:])[0] if "=" in word and not word.startswith("-")]
    proposed = saved.copy()
    for group in set(groups("train")) & (set(groups("train")) if "experiment" in words else set(words)):
        if group == "trainer":
            for key in PLACEMENT:
                proposed.trainer[key] = cfg.trainer[key]
        elif group in cfg:
            proposed[group] = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)[group])  # type: ignore[index, call-overload]
    return proposed


def change(proposed: DictConfig, words: list[str]) -> DictConfig:
    """`proposed` with every ``key=value`` of `words`."""
    known = set(walk(OmegaConf.to_container(proposed), ""))
    for override in OverridesParser.create().parse_overrides(words):
        key = override.key_or_group
        if override.is_delete() or key not in known:
            raise InputError(f"{override.input_line}: the resumed run has no key {key}.{near(key, known)}")
        OmegaConf.update(proposed, key, override.value(), merge=True)
    return proposed


def refuse_another_run(saved: dict[str, Any], proposed: dict[str, Any], folder: Path, remedy: str = "") -> None:
    """Stop where `proposed` would be another run than `saved`.

    Raises:
        InputError: Naming what differs, and `remedy`.
    """
    differ = [key for key in sorted(set(saved) | set(proposed)) if saved.get(key) != proposed.get(key)]
    fixed = [key for key in differ if not may_differ(key)]
    if fixed:
        said = ", ".join(f"{key} was {saved.get(key)!r}, is {proposed.get(key)!r}" for key in fixed[:5])
        remedy = remedy or (
            f"Leave that out to go on with it, or start a new one with backbone.weights={folder}/checkpoints/best.ckpt"
        )
        raise InputError(f"resume={folder} is another run: {said}. {remedy}")


def may_differ(key: str) -> bool:
    return key.startswith(FREE) or (key.startswith("data.") and key.rsplit(".", 1)[-1] in FREE_OF_DATA)


def flat(node: Any) -> dict[str, Any]:
    """{dotted key: plain value} of all leaves; lists are leaves."""
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return {key: value for key, value in walk(plain, "").items() if not isinstance(value, dict) or not value}


def walk(node: Any, path: str) -> dict[str, Any]:
    """Every node below `node` by its dotted key."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        full = f"{path}.{key}" if path else str(key)
        found[full] = value
        if isinstance(value, dict):
            found |= walk(value, full)
    return found
