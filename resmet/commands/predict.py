"""Predict for files: python predict.py ckpt=RUN/checkpoints/best.ckpt source=FILE_OR_FOLDER."""

from typing import TYPE_CHECKING, NoReturn

from resmet.cli.entrypoint import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    from datamodules.predict_files import Files
    from resmet.assembly import load_task
    from resmet.cli.run_dir import new_run_dir, open_run_dir
    from resmet.deploy.predictor import Predictor

    predictor = Predictor(load_task(cfg.ckpt), cfg.part, cfg.threshold)
    files = Files(cfg.source, predictor.spec, cfg.batch_size)
    folder = new_run_dir(cfg.run_dir, "predict")
    open_run_dir(folder, "predict")
    predictor.run(files, folder, cfg.draw)


def main() -> NoReturn:
    command("predict", run)
