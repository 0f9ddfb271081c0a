"""A sweep, from its command line to its folder: everything is composed and checked before the first trial starts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from foundation.parallel.rank_zero import started_externally
from foundation.storage.atomic import write_text
from foundation.structures import InputError
from resmet.cli.conf_files import CONF, load
from resmet.cli.config_dir import check_config_dir, config_dirs, search_path_of
from resmet.cli.console_log import start_log
from resmet.cli.hydra_state import hide_shared_files, to_plain
from resmet.cli.messages import invalid_value, translate
from resmet.cli.options import MULTIRUN, split_options
from resmet.cli.validate import check
from resmet.sweeps.arguments import is_of_sweep, resumed_sweeps
from resmet.sweeps.scheduler import Scheduler
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space, read_space
from resmet.sweeps.study import SweepStudy
from resmet.sweeps.sweep_dir import Request, describe, find_sweep_dir, locked, read_sweep_config, refuse_programs

MAX_COMPOSED = 100
"""Of more combinations than these, not every one is composed beforehand (a tenth of a second each), but every value is."""


def sweep(argv: Sequence[str]) -> int:
    """Runs the sweep that the command line `argv`, with its script, asks for; returns its exit code.

    0 all trials are done or pruned; 1 a trial failed; 2 trials were refused and none failed; 130 and 143 after a signal.

    Raises:
        InputError: If some trial could not run, or the folder holds something else. Nothing has been written then.
    """
    if started_externally():
        text = "a sweep starts the processes of its trials itself: start it once, not by torchrun, srun or with several tasks"
        raise InputError("sweep.launched_in_parallel", text)
    program = [sys.executable, str(Path(argv[0]).resolve())]
    arguments = with_saved(list(argv[1:]))
    check_config_dir([argument for argument in arguments if argument not in MULTIRUN], "train")
    hide_shared_files()
    options, overrides = split_options(argument for argument in arguments if argument not in MULTIRUN)
    folders = config_dirs(options)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        request = read_request(overrides, options)
        search = build_search(request.sweep)
        search.total(request.space)  # raises if it can't be searched
        cfg = check_trials(request.space, [search_path_of(folders)] if folders else [])
    config = describe(request, search, program)
    folder = find_sweep_dir(request, config)
    with locked(folder) as lock:
        epochs = cfg.trainer.get("max_epochs") or 1
        study = SweepStudy(folder, request.space, search, cfg.seed if isinstance(cfg.seed, int) else 0, epochs)
        write_text(folder / "sweep.yaml", yaml.safe_dump(config, sort_keys=False, width=10_000))
        start_log(folder / "sweep.log")
        return Scheduler(folder, program + request.options, study, lock).run()


def with_saved(arguments: list[str]) -> list[str]:
    """Returns `arguments`, with those of the resumed sweep if only its folder and overrides of the sweep are given.

    Raises:
        InputError: If a sweep is asked for without ``-m``.
    """
    resumed = resumed_sweeps(arguments)
    if resumed and all(a.startswith(("resume=", "run_dir=", "-")) or is_of_sweep(a) for a in arguments):
        config = read_sweep_config(resumed[0])
        refuse_programs(config, resumed[0])
        return [*config["flags"], *config["words"], *config["chosen"], *arguments]
    if not set(arguments) & set(MULTIRUN):
        text = "sweep=..., or resume= with the folder of a sweep, is for many runs: add -m"
        raise InputError("sweep.needs_multirun", text)
    return arguments


def read_request(arguments: list[str], options: list[str]) -> Request:
    """Separates overrides of the trials, of the sweep, and of the folder.

    Raises:
        HydraException: If an override is not of Hydra's grammar.
        InputError: If the folder varies, or an axis is empty.
    """
    of_folder: dict[str, str | None] = {"run_dir": None, "resume": None}
    trial: list[Override] = []
    of_sweep: dict[str, str] = {}
    for override in OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(arguments):
        key, line = override.key_or_group, str(override.input_line)
        if key in of_folder:
            if override.is_sweep_override():
                text = f"{line}: a sweep has one folder, with a folder for each trial in it"
                raise InputError("sweep.several_folders", text)
            of_folder[key] = None if override.value() is None else str(override.value())
        elif key in ("sweep.launcher", "sweep/launcher"):  # a choice, written either way
            of_sweep["launcher"] = f"sweep/launcher={override.get_value_element_as_str()}"
        elif is_of_sweep(key):
            of_sweep[key] = line
        else:
            trial.append(override)
    return Request(read_space(trial), list(of_sweep.values()), options, **of_folder)


def build_search(overrides: list[str]) -> Search:
    """Returns the search that ``conf/sweep/`` and `overrides` describe."""
    try:
        cfg = compose("sweep", overrides)
        check(to_plain(cfg), "sweep")
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error, "sweep") from error
    ours = {load(file).get("_target_") for file in (CONF / "sweep").rglob("*.yaml")}
    for node in (cfg.sweep, cfg.sweep.launcher):
        if node._target_ not in ours:
            text = f"a sweep may not instantiate {node._target_}: choose from conf/sweep/"
            raise InputError("sweep.forbidden_target", text)
    try:
        return instantiate(cfg.sweep, _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ or error from None  # what the constructor itself raised


def check_trials(space: Space, search_path: list[str]) -> DictConfig:
    """Composes and checks every trial, or every value if combinations are too many; returns the first one's config.

    Raises:
        InputError: For the first trial that can't run, naming it.
    """
    configs: list[DictConfig] = []
    for values in space.grid() if space.count() <= MAX_COMPOSED else space.probes():
        overrides = space.overrides_of(values)
        try:
            configs.append(compose("train", [*search_path, *overrides]))
            check(to_plain(configs[-1]), "train")
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            bare = type(error) is ValueError
            coded = invalid_value(overrides, error) if bare else translate(error, "train")
            named = " ".join(f"{key}={value}" for key, value in values.items())
            text = str(coded) if str(coded).startswith(named) else f"trial {named}: {coded}"
            raise InputError(coded.code, text) from error
    return configs[0]
