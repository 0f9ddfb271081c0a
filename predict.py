"""Answer for files: python predict.py ckpt=RUN/checkpoints/best.ckpt source=FILE_OR_FOLDER."""

from typing import TYPE_CHECKING

from runs.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: "DictConfig") -> None:
    from assembly import load_task
    from datamodules.files import Files
    from deploy.predictor import Predictor
    from runs.folder import claim, open_folder

    predictor = Predictor(load_task(cfg.ckpt), cfg.part, cfg.threshold)
    files = Files(cfg.source, predictor.spec, cfg.batch_size)
    folder = claim(cfg.run_dir, "predict")
    open_folder(folder, "predict")
    predictor.run(files, folder, cfg.pictures)


if __name__ == "__main__":
    command("predict", main)
