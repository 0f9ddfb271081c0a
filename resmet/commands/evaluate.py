"""Evaluate a checkpoint on its own data, or on other data of its classes: python evaluate.py ckpt=RUN/checkpoints/best.ckpt."""

from typing import TYPE_CHECKING, NoReturn

from resmet.cli.entrypoint import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    from dataclasses import replace

    from omegaconf import OmegaConf

    from resmet.assembly import assemble_data, build, load_task
    from resmet.cli.run_dir import new_run_dir, open_run_dir
    from resmet.engine.evaluate import evaluate, evaluation_precision

    task = load_task(cfg.ckpt)
    chosen = cfg if cfg.get("data") else OmegaConf.create(task.config)
    data = assemble_data(chosen)
    if not cfg.get("data") and (root := chosen.data.get("root")):
        data.notes.append(f"the data is what the checkpoint names, {root}: say data=... data.root=... for other data")
    data.use_spec(task.spec, other_data=bool(cfg.get("data")))
    data.setup_splits([cfg.split], [cfg.split])
    trainer = build(cfg.trainer)
    trainer = replace(trainer, precision=evaluation_precision(trainer.precision, task.config))
    folder = new_run_dir(cfg.run_dir, "evaluate")
    open_run_dir(folder, "evaluate")
    evaluate(task, data, cfg.split, folder, trainer, str(cfg.ckpt))


def main() -> NoReturn:
    command("evaluate", run)
