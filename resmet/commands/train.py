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
    budget = seconds(cfg.time_budget, "time_budget", "time for a run") if cfg.get("time_budget") is not None else None
    opened = partial(open_run_dir, folder, "train", cfg.copy())
    resume = bool(cfg.resume)
    if resume:
        cfg.backbone.weights = "none"  # the checkpoint has them; the file may be gone

    from resmet.assembly import assemble_data, assemble_task, build, rehearse
    from resmet.checkpoints.resume import recall
    from resmet.engine.fit import start, train
    from resmet.engine.trainer import refuse_without_compiler

    start(cfg.seed)
    engine = build(cfg.trainer)
    trainer = engine()
    processes = trainer.world_size
    if cfg.get("compile"):
        refuse_without_compiler(trainer)
    rehearse(cfg)  # a number out of range is said before the data is read
    callbacks = [build(node) for node in (cfg.get("callbacks") or {}).values() if node]
    logger = build(cfg.logger) if cfg.get("logger") else None
    data = assemble_data(cfg)
    if resume:
        recall(folder, data)
    data.prepare()
    data.suit(processes)
    task = assemble_task(cfg, data.spec)
    if cfg.get("compile"):  # a run that was begun without the key has none
        task.compile_parts()
    train(task, data, folder, opened, engine, callbacks, logger, cfg.seed, resume, budget)


def main() -> NoReturn:
    """Trains, or runs the sweep that the command line asks for."""
    command("train", run, sweep_if_requested)


def sweep_if_requested(argv: Sequence[str]) -> int | None:
    """Runs the sweep that `argv` asks for and returns its exit code; None where it asks for a single run."""
    if not is_sweep(argv[1:]):
        return None
    from resmet.sweeps.command import sweep

    return sweep(argv)
