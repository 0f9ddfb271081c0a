"""Examine a folder: what the data is, what is wrong with it, which command trains on it: python doctor.py DIR [json=PATH] [data=FORMAT]."""

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from foundation.structures import NO_LIGHTNING
from resmet.cli.entrypoint import command
from resmet.data_checks.run.arguments import to_overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from datamodules.base.items import ItemDataModule
    from resmet.data_checks.model.options import TaskInput


def run(cfg: "DictConfig") -> None:
    from functools import partial

    import torch
    from hydra.core.hydra_config import HydraConfig

    from resmet.data_checks.model.options import DoctorOptions
    from resmet.data_checks.run.run import examine

    torch.set_num_threads(1)  # items are inspected in parallel
    config = HydraConfig.get()
    keys = [word for word in config.overrides.task if word.startswith("data.") and not word.startswith("data.root=")]
    format = config.runtime.choices.get("data") or ""
    options = DoctorOptions(cfg.root, format, keys, cfg.sheet, cfg.json, task_inputs())
    examine(options, partial(make_reader, cfg))


def task_inputs() -> "dict[str, TaskInput]":
    """Returns what the tasks of conf/task learn from, read from their source text: importing them takes 3 s."""
    from resmet.cli.conf_files import CONF, choices, load
    from resmet.cli.schema import class_attribute

    targets = {name: load(CONF / "task" / f"{name}.yaml")["_target_"] for name in choices("task")}
    return {name: (class_attribute(task, "targets"), class_attribute(task, "axes")) for name, task in targets.items()}


def make_reader(cfg: "DictConfig", format: str, settings: dict[str, Any]) -> "ItemDataModule":
    """Builds the reader of a format, with the keys that were typed and with `settings`."""
    from hydra import compose
    from omegaconf import OmegaConf

    from datamodules.base.items import ItemDataModule
    from foundation.overrides import format_value
    from foundation.structures import InputError
    from resmet.assembly import assemble_data

    if not cfg.get("data"):  # the format was recognized, not typed
        root = format_value(cfg.root)
        cfg = compose("doctor", [f"root={root}", f"data={format}", f"data.root={root}", f"seed={cfg.seed}"])
    cfg = cfg.copy()
    for key, value in settings.items():
        OmegaConf.update(cfg, f"data.{key}", value, merge=True)
    data = assemble_data(cfg)
    if not isinstance(data, ItemDataModule):
        raise InputError(
            "doctor.joint_data", "doctor.py reads one data set at a time: check the parts of joint data one by one"
        )
    return data


def main() -> NoReturn:
    os.environ[NO_LIGHTNING] = "1"
    sys.argv[1:] = to_overrides(sys.argv[1:])
    command("doctor", run)
