"""What this project asks of Hydra's global state, and the one place that changes it."""

from __future__ import annotations

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, OmegaConf


def to_plain(cfg: DictConfig) -> dict:
    """Returns a config as plain values, interpolations resolved, missing values as ``???``."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def multirun_dir() -> str | None:
    """Returns the output folder of this run of a Hydra multirun (``evaluate.py -m ...``); None for a single run."""
    if not HydraConfig.initialized():  # a process that received its config from another
        return None
    config = HydraConfig.get()
    return config.runtime.output_dir if config.mode is not None and config.mode.name == "MULTIRUN" else None


def multirun_number() -> str:
    """Returns the number of this run of a Hydra multirun."""
    return str(HydraConfig.get().job.num)


def multirun_label() -> str:
    """Returns the number and the overrides of this run of a Hydra multirun, to begin a message with; "" for a single run."""
    if multirun_dir() is None:
        return ""
    config = HydraConfig.get()
    return f"run {config.job.num} ({' '.join(config.overrides.task)}): "


_all_options = ConfigLoaderImpl.get_group_options


def visible_options(
    loader: ConfigLoaderImpl,
    group_name: str,
    results_filter: ObjectType | None = ObjectType.CONFIG,
    config_name: str | None = None,
    overrides: list[str] | None = None,
) -> list[str]:
    options = _all_options(loader, group_name, results_filter, config_name, overrides)
    return [name for name in options if not name.startswith("_")]


def hide_shared_files() -> None:
    """Leaves files that begin with ``_`` out of the choices that Hydra lists for --help, completion and ``glob``.

    They hold what several choices of a group share. Hydra has no option for this.
    """
    ConfigLoaderImpl.get_group_options = visible_options  # type: ignore[method-assign, assignment]
