"""Untrusted checkpoints and run folders run no code: each payload here would create a folder, and none does."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from refusals import refused

from backbones.weights import read_file
from foundation.structures import CodedError, Spec
from resmet.assembly import allowed, assemble_data, assemble_task, build, load_task, read_checkpoint
from resmet.checkpoints.checkpoint_io import AtomicCheckpointIO
from resmet.checkpoints.resume import find_resume_point
from resmet.cli.saved_config import read_config

CONFIG: dict[str, Any] = {
    "task": {"_target_": "tasks.classification.Classification", "_partial_": True},
    "backbone": {"_target_": "backbones.resnet.ResNet", "_partial_": True, "depth": 18, "width": 8, "weights": "none"},
    "recipe": {"_target_": "tasks.optim.recipe.Recipe"},
}
SPEC = Spec(2, 1, ("a", "b"), (0.0,), (1.0,), (32, 32), "stretch")


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def save(path: Path, **change: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    task = assemble_task(OmegaConf.create(CONFIG), SPEC)
    torch.save({"state_dict": task.state_dict(), "config": CONFIG, "spec": SPEC.to_dict()} | change, path)
    return path


def test_the_payload_works(mark: Path) -> None:
    torch.save(Payload(mark), mark.with_suffix(".pt"))
    torch.load(mark.with_suffix(".pt"), weights_only=False)
    assert mark.exists()


READERS: dict[str, Callable[[Path], Any]] = {
    "evaluate and predict": load_task,
    "evaluate's data": read_checkpoint,
    "a run that is tested or resumed": lambda path: AtomicCheckpointIO().load_checkpoint(path),
    "backbone.weights": read_file,
}


@pytest.mark.parametrize("environment", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}], ids=["plain", "forced"])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_pickle_is_not_run(
    reader: Callable, environment: dict[str, str], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = save(mark.with_suffix(".ckpt"), state_dict=Payload(mark))
    with refused("checkpoint.unreadable|weights.unreadable", CodedError):
        reader(path)
    assert not mark.exists()


def test_a_run_folder_of_pickles_is_not_run(mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for name in ("last", "previous-1"):
        save(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", position=Payload(mark))
    with refused("checkpoint.none") as error:
        find_resume_point(tmp_path / "run", assemble_task(OmegaConf.create(CONFIG), SPEC), None)
    assert "last.ckpt" in str(error.value)
    assert "previous-1.ckpt" in str(error.value)
    assert not mark.exists()


def test_no_import_extends_the_safe_globals() -> None:
    import lightning  # noqa: F401
    import timm  # noqa: F401

    import resmet.engine.fit  # noqa: F401

    homes = {thing.__module__.split(".")[0] for thing in torch.serialization.get_safe_globals()}
    assert homes <= {"torch"}, "an import extends what weights_only=True creates"


def programs(mark: Path) -> list[dict[str, Any]]:
    """Nodes of a config that run a program or write a file when they are instantiated."""
    home = str(mark.parent)
    return [
        {"_target_": "os.mkdir", "_args_": [str(mark)]},
        {"_target_": "resmet.sweeps.launchers.attempt", "line": ["mkdir", str(mark)], "logs": home, "number": 0},
        {"_target_": "resmet.sweeps.launchers.Process", "_args_": [["mkdir", str(mark)], home, 0, 0, None]},
        {
            "_target_": "resmet.sweeps.launchers.leave",
            "path": {"_target_": "pathlib.Path", "_args_": [str(mark)]},
            "code": 0,
        },
        {"_target_": "torch.utils.cpp_extension.load", "name": "x", "sources": [home]},
        {"_target_": "torch.hub.load", "repo_or_dir": home, "model": "x", "source": "local"},
        {"_target_": "lightning.pytorch.loggers.tensorboard.TensorBoardLogger", "save_dir": home, "name": "mark"},
        {"_target_": "datamodules.shards.writer.pack", "data": None, "out": str(mark)},
        {"_target_": "hydra.utils.get_method", "path": "os.mkdir"},
    ]


@pytest.mark.parametrize("key", ["task", "backbone", "recipe"])
@pytest.mark.parametrize("number", range(9))
def test_the_config_in_a_checkpoint_starts_no_program(key: str, number: int, mark: Path) -> None:
    node = programs(mark)[number]
    for config in (CONFIG | {key: node}, CONFIG | {key: CONFIG[key] | {"head": [{"deep": node}]}}):
        with refused("config.forbidden_target"):
            load_task(save(mark.with_suffix(".ckpt"), config=config))
    assert not mark.exists()


@pytest.mark.parametrize("number", range(9))
def test_the_config_of_data_starts_no_program(number: int, mark: Path) -> None:
    node = programs(mark)[number]
    assert not allowed(node["_target_"])
    with refused("config.forbidden_target"):
        assemble_data(OmegaConf.create({"data": node}))
    with refused("config.forbidden_target"):
        build(OmegaConf.create({"_target_": "datamodules.synthetic.Digits", "augment": node}))
    assert not mark.exists()


def test_configs_of_other_objects_are_not_data() -> None:
    for data in (None, {"_target_": "tasks.optim.recipe.Recipe"}, {"root": "x"}):
        with refused("config.no_data"):
            assemble_data(OmegaConf.create({"data": data} if data else {}))


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "${oc.decode:x}", "${hydra:runtime.cwd}", "a/${task}", "${now:%Y}"])
def test_references_in_untrusted_configs_are_refused(text: str, tmp_path: Path) -> None:
    with refused("config.reference"):
        read_checkpoint(save(tmp_path / "a.ckpt", config=CONFIG | {"data": {"roots": [{"root": text}]}}))
    with refused("config.reference"):
        read_checkpoint(save(tmp_path / "b.ckpt", config=CONFIG | {text: 1}))
    (tmp_path / "config.yaml").write_text(f"data:\n  root: '{text}'\n")
    with refused("config.reference"):
        read_config(tmp_path)


LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9))
TRICKS = {
    "an object": "x: !!python/object/apply:os.mkdir [MARK]",
    "a name": "x: !!python/name:os.mkdir",
    "anchors": LAUGHS,
    "a circle": "a: &a [*a]",
    "depth": "[" * 200_000,
    "a number": "a: " + "9" * 9999,
    "a date": "a: 2020-99-99",
    "bytes": "a: \0",
}


@pytest.mark.parametrize("text", TRICKS.values(), ids=TRICKS)
def test_the_config_of_a_run_is_plain_values(text: str, mark: Path, tmp_path: Path) -> None:
    from datamodules.formats.yolo import read_data_yaml

    for name, read in (("config.yaml", read_config), ("data.yaml", read_data_yaml)):
        (tmp_path / name).write_text(text.replace("MARK", str(mark)))
        with refused("data.unreadable_yaml"):
            read(tmp_path)
    assert not mark.exists()


def test_a_config_that_is_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- 1")
    with refused("run_dir.unreadable_config"):
        read_config(tmp_path)


def test_a_config_that_is_text_is_refused(tmp_path: Path) -> None:
    """OmegaConf would parse it."""
    with refused("checkpoint.invalid_config"):
        read_checkpoint(save(tmp_path / "a.ckpt", config="data: {root: x}"))
