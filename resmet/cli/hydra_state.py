"""What this project asks of Hydra's global state, and the one place that changes it."""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


def to_plain(cfg: DictConfig) -> dict:
    """Returns a config as plain values, interpolations resolved, missing values as ``???``."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def multirun() -> HydraConf | None:
    """Returns Hydra's own config of this run of a Hydra multirun (``evaluate.py -m ...``); None for a single run."""
    if not HydraConfig.initialized():  # a process that received its config from another
        return None
    config = HydraConfig.get()
    return config if config.mode is not None and config.mode.name == "MULTIRUN" else None


def multirun_label() -> str:
    """Returns the number and the overrides of this run of a Hydra multirun, to begin a message with; "" for a single run."""
    config = multirun()
    return f"run {config.job.num} ({' '.join(config.overrides.task)}): " if config else ""


_all_options = ConfigLoaderImpl.get_group_options


def visible_options(*args: Any, **kwargs: Any) -> list[str]:
    return [name for name in _all_options(*args, **kwargs) if not name.startswith("_")]


def hide_shared_files() -> None:
    """Leaves files that begin with ``_`` out of the choices that Hydra lists for --help, completion and ``glob``.

    They hold what several choices of a group share. Hydra has no option for this.
    """
    ConfigLoaderImpl.get_group_options = visible_options  # type: ignore[method-assign]
