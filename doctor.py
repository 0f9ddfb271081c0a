"""What is this data, what is wrong with it, which command trains on it: python doctor.py DIR [json=PATH] [data=FORMAT]."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: "DictConfig") -> None:
    from functools import partial

    from hydra.core.hydra_config import HydraConfig

    from resmet.data_checks.run.run import visit
    from resmet.data_checks.run.scan import Order

    format = HydraConfig.get().runtime.choices.get("data") or ""
    keys = [word for word in HydraConfig.get().overrides.task if word.startswith("data.")]
    said = [word for word in keys if not word.startswith("data.root=")]
    visit(Order(cfg.root, format, said, cfg.sheet, cfg.json, WORDS), partial(assemble, cfg))


def assemble(cfg: "DictConfig", settings: dict[str, Any]) -> Any:
    """The reader that was asked for, with `settings` that were found out."""
    from omegaconf import OmegaConf

    from resmet.assembly import assemble_data

    for key, value in settings.items():
        OmegaConf.update(cfg, f"data.{key}", value, merge=True)
    return assemble_data(cfg)


if __name__ == "__main__":
    from resmet.data_checks.run.arguments import repeat, spell_out

    WORDS = sys.argv[1:]
    repeat(WORDS)  # leaves, where nothing has changed since the last time
    sys.argv[1:] = spell_out(WORDS)

    from resmet.cli.entrypoint import command

    command("doctor", main)
