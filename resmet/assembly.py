"""From a config to data and task, and from a checkpoint back to a task. The only module besides the scripts that sees a config."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backbones.base import Backbone
from datamodules.base.datamodule import DataModule
from foundation.storage.safe_load import refuse_references, safe_load
from foundation.structures import InputError, Spec, first_line
from resmet.renamed import convert_checkpoint
from tasks.base import Task

ROOT = Path(__file__).resolve().parents[1]
OURS = ("backbones", "heads", "tasks", "datamodules")
FOREIGN = {"torch.optim.adamw.AdamW", "torch.optim.sgd.SGD", "torch.optim.adam.Adam"} | {
    "lightning.pytorch.callbacks.early_stopping.EarlyStopping"
}


def build(cfg: DictConfig) -> Any:
    """`instantiate`, for what conf/ names, layers, tasks and data of this project, and a short list.

    The object that a name leads to is judged, not the name: a path through a library's modules can end at anything.

    Raises:
        InputError: If the config names anything else, or the constructor does not take its keys.
    """
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    try:
        return instantiate(cfg, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, MisconfigurationException):
            raise InputError(f"{cfg.get('_target_')} can't be made: {first_line(cause)}") from cause
        raise cause from None  # what the constructor itself said


def check_targets(node: Any) -> None:
    """Refuse every ``_target_`` in `node` that may not be built."""
    if isinstance(node, list):
        for value in node:
            check_targets(value)
    if not isinstance(node, dict):
        return
    if "_target_" in node and not allowed(str(node["_target_"])):
        raise InputError(
            f"a config may not build {node['_target_']}: only what conf/ names, the layers, tasks and data of this project "
            f"({', '.join(OURS)}) and {sorted(FOREIGN)}"
        )
    for value in node.values():
        check_targets(value)


def allowed(target: str) -> bool:
    """Whether conf/ names `target`, or it leads to a layer, a task or data that was defined here, or stands on the list.

    Not any function of this project: some of them start programs and write files, which is their work.
    """
    if target in named():
        return True
    module, _, name = target.rpartition(".")
    top = module.split(".")[0]
    if top not in OURS and top not in ("torch", "lightning"):
        return False
    try:
        thing = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    home, own_name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    if f"{home}.{own_name}" in FOREIGN:
        return True
    if not isinstance(thing, type) or home != module or top not in OURS or own_name != name:
        return False
    return issubclass(thing, (DataModule, torch.nn.Module))


@cache
def named() -> frozenset[str]:
    """Every ``_target_`` in conf/."""
    texts = (file.read_text() for file in (ROOT / "conf").rglob("*.yaml"))
    return frozenset(target for text in texts for target in re.findall(r"\b_target_:\s*([\w.]+)", text))


def assemble_data(cfg: DictConfig) -> DataModule:
    """The data that ``cfg.data`` names, not yet read.

    Raises:
        InputError: If it names none.
    """
    data = build(cfg.data) if cfg.get("data") else None
    if not isinstance(data, DataModule):
        raise InputError("the config has no data that can be built: say data=..., data.root=...")
    return data


def assemble_task(cfg: DictConfig, spec: Spec) -> Task:
    """The task that ``cfg`` names for data of this Spec, on a fresh backbone, with its recipe."""
    backbone: Backbone = build(cfg.backbone)(ndim=spec.ndim, in_channels=spec.channels)
    task: Task = build(cfg.task)(backbone, spec)
    match = backbone.match
    if match and match.head and list(match.classes) == list(spec.class_names):
        task.adopt_head(dict(match.head))  # one that knows other classes, or does not say which, would begin far off
    task.use_recipe(build(cfg.recipe))
    task.use_config(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    task.write_defaults(task.config["task"])
    if spec.ndim == 2:
        task.to(memory_format=task.memory_format)
    return task


def rehearse(cfg: DictConfig) -> None:
    """Build recipe and task once for data that stands in for the real one, so that a wrong number is said before that is read.

    Raises:
        InputError: If one of them can't be built.
    """
    build(cfg.recipe).check_optimizer()
    config = cfg.copy()
    config.backbone.weights = "none"
    make = build(config.task)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):  # takes no time
                on_stand_in(config, make)
        except Exception:  # what can't be built without its numbers
            on_stand_in(config, make)


def on_stand_in(cfg: DictConfig, make: Any) -> None:
    """A task over the Spec of two classes of what it learns from."""
    spec = stand_in(make)
    make(build(cfg.backbone)(ndim=spec.ndim, in_channels=spec.channels), spec)


def stand_in(make: Any) -> Spec:
    """A Spec that a partial of a task would take; of joint ones, one that its parts would."""
    task, parts = make.func, make.keywords.get("tasks") or {}
    ndim = 2 if 2 in task.axes else task.axes[0]
    return Spec(
        ndim,
        3,
        ("background", "object"),
        counts=(1, 1),
        target=task.targets[0],
        parts={name: stand_in(part) for name, part in parts.items()},
    )


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint of ours as plain values and tensors.

    Raises:
        InputError: If the file is missing, cut short, or no checkpoint of ours.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file: give a checkpoint, RUN/checkpoints/best.ckpt")
    try:
        content = safe_load(Path(path), mapped=mmap)
    except InputError as error:
        raise InputError(f"{path} can't be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or not {"config", "spec", "state_dict"} <= set(content):
        raise InputError(
            f"{path} is no checkpoint of this project (it lacks config, spec or state_dict); to start from foreign weights say backbone.weights={path}"
        )
    content = convert_checkpoint(content)
    refuse_references(content["config"], str(path))
    if not isinstance(content["config"], dict):
        raise InputError(f"{path} holds a config that is none ({type(content['config']).__name__}): train anew")
    return content


def load_task(path: str | Path) -> Task:
    """The trained task in a checkpoint, ready to predict; it needs neither the training data nor the config.

    Raises:
        InputError: If the file can't be used.
    """
    content = read_checkpoint(path)
    spec = Spec.from_dict(content["spec"])
    try:
        config = OmegaConf.create(content["config"])
        config.backbone.weights = "none"  # they are in the checkpoint
        task = assemble_task(config, spec)
    except (OmegaConfBaseException, TypeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} holds a config that no task can be made of ({first_line(error)})") from error
    task.use_config(content["config"])
    try:
        task.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its own config: {str(error).splitlines()[1].strip()[:160]}") from error
    return task.eval()
