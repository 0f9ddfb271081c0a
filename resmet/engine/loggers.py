"""Where figures go besides metrics.csv. Each service is imported only when it was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.structures import InputError


def missing(extra: str, error: Exception) -> InputError:
    return InputError(
        f"logger={extra} needs its package ({str(error).splitlines()[0]}): pip install -c constraints.txt -e '.[{extra}]', or choose logger=csv"
    )


def tensorboard(name: str = "tensorboard", run_dir: Path = Path()) -> Any:
    """Event files in ``<run_dir>/<name>``; look at them with ``tensorboard --logdir RUN``."""
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run_dir, name=name, version="")
    except ModuleNotFoundError as error:
        raise missing("tensorboard", error) from error


def wandb(project: str = "resmet", offline: bool = False, run_dir: Path = Path()) -> Any:
    """Weights & Biases; `offline` keeps everything in the run folder."""
    try:
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(project=project, save_dir=run_dir, offline=offline, name=run_dir.name)
    except ModuleNotFoundError as error:
        raise missing("wandb", error) from error


def mlflow(project: str = "resmet", tracking_uri: str | None = None, run_dir: Path = Path()) -> Any:
    """MLflow, at `tracking_uri` or in the run folder."""
    try:
        from lightning.pytorch.loggers import MLFlowLogger

        uri = tracking_uri or f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"
        return MLFlowLogger(experiment_name=project, tracking_uri=uri, run_name=run_dir.name)
    except ModuleNotFoundError as error:
        raise missing("mlflow", error) from error
