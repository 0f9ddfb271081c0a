"""From a config to data and task, and from a checkpoint back to a task."""

from __future__ import annotations

import importlib
import re
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.base.datamodule import DataModule
from foundation.storage.safe_load import refuse_references, safe_load
from foundation.structures import InputError, Spec, first_line
from resmet.renamed import convert_checkpoint

if TYPE_CHECKING:
    from backbones.base import Backbone
    from tasks.base import Task

ROOT = Path(__file__).resolve().parents[1]
OURS = ("backbones", "heads", "tasks", "datamodules")
THIRD_PARTY = {"torch.optim.adamw.AdamW", "torch.optim.sgd.SGD", "torch.optim.adam.Adam"} | {
    "lightning.pytorch.callbacks.early_stopping.EarlyStopping"
}


def build(cfg: DictConfig) -> Any:
    """Hydra's `instantiate`, for what may be built: see `allowed`."""
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    try:
        return instantiate(cfg, _convert_="all")
    except InstantiationException as error:
        from lightning.pytorch.utilities.exceptions import MisconfigurationException  # takes 2.5 s

        cause = error.__cause__ or error
        if isinstance(cause, MisconfigurationException):
            text = f"{cfg.get('_target_')} can't be built: {first_line(cause)}"
            raise InputError("config.invalid_value", text) from cause
        raise cause from None  # the constructor's own error


def check_targets(node: Any) -> None:
    """Refuses every ``_target_`` in `node` that may not be built."""
    if isinstance(node, dict) and "_target_" in node and not allowed(str(node["_target_"])):
        ours = f"the layers, tasks and data of this project ({', '.join(OURS)})"
        text = f"a config may not build {node['_target_']}: only what conf/ names, {ours} and {sorted(THIRD_PARTY)}"
        raise InputError("config.forbidden_target", text)
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        check_targets(value)


def allowed(target: str) -> bool:
    """Whether conf/ names `target`, or it is a layer, a task or a data module defined here, or one of `THIRD_PARTY`.

    Not every function of this project: some start programs or write files. The object that a name resolves to is checked, not the name: a
    path through a library's modules can end at anything.
    """
    if target in conf_targets():
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
    if f"{home}.{own_name}" in THIRD_PARTY:
        return True
    if not isinstance(thing, type) or home != module or top not in OURS or own_name != name:
        return False
    return issubclass(thing, (DataModule, torch.nn.Module))


@cache
def conf_targets() -> frozenset[str]:
    """Returns every ``_target_`` in conf/."""
    texts = (file.read_text() for file in (ROOT / "conf").rglob("*.yaml"))
    return frozenset(target for text in texts for target in re.findall(r"\b_target_:\s*([\w.]+)", text))


def assemble_data(cfg: DictConfig) -> DataModule:
    """Returns the data module of ``cfg.data``, which has not read anything yet."""
    data = build(cfg.data) if cfg.get("data") else None
    if not isinstance(data, DataModule):
        raise InputError("config.no_data", "the config names no data module: set data=... and data.root=...")
    return data


def assemble_task(cfg: DictConfig, spec: Spec) -> Task:
    """Returns the task of ``cfg.task`` for data of this Spec, on the backbone of ``cfg.backbone``, with its recipe."""
    backbone: Backbone = build(cfg.backbone)(ndim=spec.ndim, in_channels=spec.channels)
    task: Task = build(cfg.task)(backbone, spec)
    match = backbone.match
    if match and match.head and list(match.classes) == list(spec.class_names):  # a head of other classes is a bad start
        task.load_pretrained_head(dict(match.head))
    task.use_recipe(build(cfg.recipe))
    task.use_config(cast(dict, OmegaConf.to_container(cfg, resolve=True)))
    task.write_defaults(task.config["task"])
    if spec.ndim == 2:
        task.to(memory_format=task.memory_format)
    return task


def without_weights(cfg: DictConfig) -> DictConfig:
    """Returns a copy of `cfg` whose backbone loads no pretrained weights: a checkpoint has them."""
    none = {"backbone": {"weights": "none"}} if "weights" in cfg.backbone else {}
    return cast(DictConfig, OmegaConf.merge(cfg, none))


def check_buildable(cfg: DictConfig) -> None:
    """Builds recipe and task once for a placeholder Spec, so that an invalid number is reported before the data is read."""
    build(cfg.recipe).check_optimizer()
    config = without_weights(cfg)
    make = build(config.task)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):  # takes no time
                build_for_placeholder(config, make)
        except Exception:  # what needs its values to be built
            build_for_placeholder(config, make)


def build_for_placeholder(cfg: DictConfig, make: partial[Task]) -> None:
    spec = placeholder_spec(make)
    make(build(cfg.backbone)(ndim=spec.ndim, in_channels=spec.channels), spec)


def placeholder_spec(make: partial[Task]) -> Spec:
    """Returns a Spec of two classes that a partial of a task accepts; of joint tasks, one that its parts accept."""
    task, parts = cast("type[Task]", make.func), make.keywords.get("tasks") or {}
    return Spec(
        ndim=2 if 2 in task.axes else task.axes[0],
        channels=3,
        class_names=("background", "object"),
        counts=(1, 1),
        target=task.targets[0],
        parts={name: placeholder_spec(part) for name, part in parts.items()},
    )


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """Returns a checkpoint as plain values and tensors, with the present names of whatever was renamed since it was written.

    Args:
        path: ``RUN/checkpoints/best.ckpt`` or ``last.ckpt``.
        mmap: Whether to leave tensors on disk until they are used.

    Raises:
        InputError: If the file is missing, truncated, or no checkpoint of this project.
    """
    if not Path(path).is_file():
        text = f"{path}: there is no such file: give a checkpoint, RUN/checkpoints/best.ckpt"
        raise InputError("checkpoint.missing", text)
    try:
        content = safe_load(Path(path), mapped=mmap)
    except InputError as error:
        raise InputError("checkpoint.unreadable", f"{path} can't be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or not {"config", "spec", "state_dict"} <= set(content):
        text = f"{path} is no checkpoint of this project (it lacks config, spec or state_dict)"
        raise InputError("checkpoint.foreign", f"{text}; to start from its weights, set backbone.weights={path}")
    content = convert_checkpoint(content)
    refuse_references(content["config"], str(path))
    if not isinstance(content["config"], dict):
        text = f"{path} has a {type(content['config']).__name__} as its config: train again"
        raise InputError("checkpoint.invalid_config", text)
    return content


def load_task(path: str | Path) -> Task:
    """Returns the trained task of a checkpoint in evaluation mode. It needs neither the training data nor a config."""
    content = read_checkpoint(path)
    spec = Spec.from_dict(content["spec"])
    try:
        task = assemble_task(without_weights(OmegaConf.create(content["config"])), spec)
    except (OmegaConfBaseException, TypeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        text = f"{path} has a config that no task can be built from ({first_line(error)})"
        raise InputError("checkpoint.invalid_config", text) from error
    task.use_config(content["config"])
    try:
        task.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        text = f"the weights in {path} do not fit its config: {' '.join(str(error).split())[:200]}"
        raise InputError("checkpoint.wrong_weights", text) from error
    return task.eval()
