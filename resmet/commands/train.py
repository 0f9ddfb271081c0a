"""Train a task, then test it with the best weights: python train.py [overrides]."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from resmet.cli.entrypoint import command
from resmet.sweeps.arguments import is_sweep

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    from functools import partial

    from foundation.durations import seconds
    from resmet.cli.run_dir import find_run_dir, open_run_dir

    cfg, folder = find_run_dir(cfg)  # answers before torch is imported
    budget = seconds(cfg.time_budget, "time_budget") if cfg.get("time_budget") is not None else None
    open_folder = partial(open_run_dir, folder, "train", cfg.copy())
    resume = bool(cfg.resume)

    from lightning.pytorch import seed_everything

    from resmet.assembly import assemble_data, assemble_task, build, check_buildable, without_weights
    from resmet.checkpoints.resume import restore_exclusions
    from resmet.engine.fit import RunOptions, train
    from resmet.engine.trainer import check_compiler

    if resume:
        cfg = without_weights(cfg)  # the checkpoint has them, and the file may be gone
    seed_everything(cfg.seed, workers=False, verbose=False)
    trainer = build(cfg.trainer)
    world_size = trainer.world_size
    if cfg.get("compile"):
        check_compiler(trainer)
    check_buildable(cfg)  # an option out of range is refused before the data is read
    callbacks = [build(node) for node in (cfg.get("callbacks") or {}).values() if node]
    logger = build(cfg.logger) if cfg.get("logger") else None
    options = RunOptions(folder, trainer, callbacks, logger, cfg.seed, resume, budget)
    data = assemble_data(cfg)
    if resume:
        restore_exclusions(folder, data)
    data.setup("fit")
    data.check_world_size(world_size)
    task = assemble_task(cfg, data.spec)
    if cfg.get("compile"):  # absent from the config of an older run
        task.compile_parts()
    train(task, data, options, open_folder)


def main() -> NoReturn:
    """Trains, or runs the sweep that the command line asks for."""
    command("train", run, sweep_if_requested)


def sweep_if_requested(argv: Sequence[str]) -> int | None:
    """Runs the sweep that `argv` asks for and returns its exit code; None where it asks for a single run."""
    if not is_sweep(argv[1:]):
        return None
    from resmet.sweeps.command import sweep

    return sweep(argv)
