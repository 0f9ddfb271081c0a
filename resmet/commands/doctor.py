"""Examine a folder: what the data is, what is wrong with it, which command trains on it: python doctor.py DIR [json=PATH] [data=FORMAT]."""

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from foundation.structures import ONLY_READS
from resmet.cli.entrypoint import command
from resmet.data_checks.run.arguments import to_overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from datamodules.base.items import ItemDataModule


def run(cfg: "DictConfig") -> None:
    from functools import partial

    import torch
    from hydra.core.hydra_config import HydraConfig

    from resmet.data_checks.model.options import DoctorOptions
    from resmet.data_checks.run.run import examine

    torch.set_num_threads(1)  # items are inspected in parallel
    config = HydraConfig.get()
    keys = [word for word in config.overrides.task if word.startswith("data.") and not word.startswith("data.root=")]
    options = DoctorOptions(cfg.root, config.runtime.choices.get("data") or "", keys, cfg.sheet, cfg.json)
    examine(options, partial(make_reader, cfg))


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
    os.environ[ONLY_READS] = "1"
    sys.argv[1:] = to_overrides(sys.argv[1:])
    command("doctor", run)
