"""Loggers beside metrics.csv. The package of each is imported only when it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.structures import InputError


def missing_package(extra: str, error: Exception) -> InputError:
    text = f"logger={extra} needs its package ({str(error).splitlines()[0]}): pip install -c constraints.txt -e '.[{extra}]', or use logger=csv"
    return InputError("config.missing_package", text)


def tensorboard(name: str = "tensorboard", run_dir: Path = Path()) -> Any:
    """Event files in ``<run_dir>/<name>``; view them with ``tensorboard --logdir RUN``."""
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run_dir, name=name, version="")
    except ModuleNotFoundError as error:
        raise missing_package("tensorboard", error) from error


def wandb(project: str = "resmet", offline: bool = False, run_dir: Path = Path()) -> Any:
    """Weights & Biases; `offline` keeps everything in the run folder."""
    try:
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(project=project, save_dir=run_dir, offline=offline, name=run_dir.name)
    except ModuleNotFoundError as error:
        raise missing_package("wandb", error) from error


def mlflow(project: str = "resmet", tracking_uri: str | None = None, run_dir: Path = Path()) -> Any:
    """MLflow, at `tracking_uri` or in the run folder."""
    try:
        from lightning.pytorch.loggers import MLFlowLogger

        uri = tracking_uri or f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"
        return MLFlowLogger(experiment_name=project, tracking_uri=uri, run_name=run_dir.name)
    except ModuleNotFoundError as error:
        raise missing_package("mlflow", error) from error
