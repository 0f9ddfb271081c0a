"""Loggers besides metrics.csv. The package of each is imported only when it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


def tensorboard(name: str = "tensorboard", run_dir: Path = Path()) -> Logger:
    """Event files in ``<run_dir>/<name>``; view them with ``tensorboard --logdir RUN``."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(run_dir, name=name, version="")


def wandb(project: str = "resmet", offline: bool = False, run_dir: Path = Path()) -> Logger:
    """Weights & Biases; `offline` writes everything to the run folder."""
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project=project, save_dir=run_dir, offline=offline, name=run_dir.name)


def mlflow(project: str = "resmet", tracking_uri: str | None = None, run_dir: Path = Path()) -> Logger:
    """MLflow, at `tracking_uri` or in the run folder."""
    from lightning.pytorch.loggers import MLFlowLogger

    uri = tracking_uri or f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"
    return MLFlowLogger(experiment_name=project, tracking_uri=uri, run_name=run_dir.name)
