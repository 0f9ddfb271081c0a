"""A sweep, from its command line to its folder: everything is composed and checked before the first trial starts."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
from resmet.cli.config_dir import check_config_dir
from resmet.cli.console_log import start_log
from resmet.cli.hydra_state import to_plain
from resmet.cli.messages import translate
from resmet.cli.validate import check
from resmet.sweeps.scheduler import Loop
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space, read_space
from resmet.sweeps.sweep_dir import Request, Said, describe, find_folder, read_said, refuse_programs
from resmet.sweeps.trial import read_trials

SWEEP = ("-m", "--multirun")
PLACES = ("-cd", "--config-dir")
MOST = 100
"""Of more combinations than these, not every one is composed beforehand (a tenth of a second each), but every value is."""


def asked(words: Sequence[str]) -> bool:
    """Whether a command line is a sweep's; ``-m --help`` and its like are Hydra's."""
    flags = {word.split("=")[0] for word in words if word.startswith("-")}
    if flags - {*SWEEP, *PLACES}:
        return False
    about = any(word.split("=")[0].split(".")[0].split("/")[0] == "sweep" for word in words)
    return bool(flags & set(SWEEP)) or about or bool(old_sweeps(words))


def old_sweeps(words: Sequence[str]) -> list[Path]:
    """Folders of sweeps that are to be gone on with."""
    named = [Path(word[7:].strip("'\"")) for word in words if word.startswith("resume=")]
    return [folder for folder in named if (folder / "sweep.yaml").is_file()]


def sweep(argv: Sequence[str]) -> int:
    """Run the sweep that the command line `argv`, with its script, asks for; returns its exit code.

    0 all trials are done (or pruned); 1 a trial failed; 2 trials were refused and none failed; 130 and 143 after a signal.

    Raises:
        InputError: If some trial could not run, or the folder holds something else. Nothing has been made then.
    """
    if started_externally():
        raise InputError(
            "a sweep starts the processes of its trials itself: start it once, not by torchrun, srun or with several tasks"
        )
    program = [sys.executable, str(Path(argv[0]).resolve())]
    words = again(list(argv[1:]))
    flags = [word for i, word in enumerate(words) if word.startswith("-") or (i and words[i - 1] in PLACES)]
    rest = [word for word in words if word not in flags]
    places = [word.partition("=")[2] or words[words.index(word) + 1] for word in flags if word.split("=")[0] in PLACES]
    check_config_dir([word for word in words if word not in SWEEP], "train")
    search_path = [f"hydra.searchpath=[{','.join(f'file://{Path(place).resolve()}' for place in places)}]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        request = read(rest, [word for word in flags if word not in SWEEP])
        search = build_search(request.sweep)
        search.refuse(request.space)
        cfg = check_trials(request.space, search_path if places else [])
    said = describe(request, search, program)
    folder, old = find_folder(request, said, search)
    return run(folder, old, said, program + request.flags, request.space, search, cfg)


def again(words: list[str]) -> list[str]:
    """`words`, with those that a sweep was started with where no others are given but its folder and ``sweep...``.

    Raises:
        InputError: If words of a sweep are said without ``-m``.
    """
    old = old_sweeps(words)
    own = [word for word in words if not word.startswith(("resume=", "run_dir=", "sweep.", "sweep=", "sweep/", "-"))]
    if old and not own:
        said = read_said(old[0])
        refuse_programs(said, old[0])
        return [*said["flags"], *said["words"], *said["chosen"], *words]
    if not any(word in SWEEP for word in words):
        raise InputError("sweep, or the folder of a sweep, is said of many runs at once: say -m too")
    return words


def read(words: list[str], flags: list[str]) -> Request:
    """Tell apart what is said of the trials, of the sweep, and of the folder.

    Raises:
        HydraException: If a word is not of Hydra's grammar.
        InputError: If the folder is to vary, or there is nothing to choose from.
    """
    own: dict[str, str | None] = {"run_dir": None, "resume": None}
    trial: list[Override] = []
    manner: dict[str, str] = {}
    for override in OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(words):
        key, line = override.key_or_group, str(override.input_line)
        if key in own:
            if override.is_sweep_override():
                raise InputError(f"{line}: a sweep has one folder, with a folder for each trial in it")
            value: Any = override.value()
            own[key] = None if value is None else str(value)
        elif key.split(".")[0].split("/")[0] == "sweep":
            group = key in ("sweep.launcher", "sweep/launcher")  # a choice, said either way
            manner["launcher" if group else key] = (
                f"sweep/launcher={override.get_value_element_as_str()}" if group else line
            )
        else:
            trial.append(override)
    return Request(read_space(trial), list(manner.values()), flags, own["run_dir"], own["resume"])


def build_search(words: list[str]) -> Search:
    """The search that ``conf/sweep/`` and `words` describe."""
    try:
        cfg = compose("sweep", words)
        check(to_plain(cfg), "sweep")
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error, "sweep") from error
    ours = {load(file).get("_target_") for file in (CONF / "sweep").rglob("*.yaml")}
    for node in (cfg.sweep, cfg.sweep.launcher):
        if node._target_ not in ours:
            raise InputError(f"a sweep may not build {node._target_}: choose from conf/sweep/")
    try:
        return instantiate(cfg.sweep, _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ or error from None  # what the constructor itself said


def check_trials(space: Space, more: list[str]) -> DictConfig:
    """Compose and check every trial, or every value where combinations are too many; returns the first one's config.

    Raises:
        InputError: For the first that can't run, naming it.
    """
    countable = all(axis.values for axis in space.axes) and space.count() <= MOST
    points: Iterable[dict[str, str]] = space.grid() if countable else space.probes()
    configs: list[DictConfig] = []
    for values in points:
        try:
            cfg = compose("train", [*more, *space.line(values)])
            check(to_plain(cfg), "train")
        except (HydraException, OmegaConfBaseException, InputError) as error:
            named = " ".join(f"{key}={value}" for key, value in values.items())
            text, code = str(translate(error, "train")), translate(error, "train").code
            raise InputError(code, text if text.startswith(named) else f"trial {named}: {text}") from error
        configs = configs or [cfg]
    return configs[0]


def run(folder: Path, old: bool, said: Said, program: list[str], space: Space, search: Search, cfg: DictConfig) -> int:
    """Make the folder, lock it, and go through the trials."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise InputError(f"run_dir={folder} can't be written ({error.strerror}): name another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"run_dir={folder} is in use: the sweep is at work, or trials of it are that it left behind; wait for them"
            ) from error
        trials = read_trials(folder, {axis.key for axis in space.axes}) if old else []
        write_text(folder / "sweep.yaml", yaml.safe_dump(said, sort_keys=False, width=10_000))
        start_log(folder / "sweep.log")
        epochs = cfg.trainer.get("max_epochs") or 1
        search.begin(space, folder, cfg.seed if isinstance(cfg.seed, int) else 0, epochs, trials)
        return Loop(folder, program, space, search, trials, lock.fileno()).run()
