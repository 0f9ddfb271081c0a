"""Every config is its constructor."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from refusals import refused

from resmet.assembly import allowed
from resmet.cli.conf_files import CONF, HYDRA_KEYS, choices, groups, known_keys, merged, suggest
from resmet.cli.hydra_state import to_plain
from resmet.cli.schema import matches, parse, signature
from resmet.cli.validate import check, check_node, configurable

FILES = sorted(path for path in CONF.rglob("*.yaml") if not path.stem.startswith("_"))
"""The choices; files that begin with ``_`` are checked as part of those that include them."""


def objects(value: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every node with a ``_target_``, at any depth."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for key, inner in value.items():
            yield from objects(inner, f"{path}.{key}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_a_wrong_key_of_a_node_is_named_equal_the_signature(file: Path) -> None:
    for path, node in objects(merged(file)):
        module, _, name = node["_target_"].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        assert allowed(node["_target_"]), path
        keys, own = set(node) - HYDRA_KEYS, set(inspect.signature(target).parameters)
        if target.__module__.split(".")[0] in ("torch", "lightning"):
            assert keys <= own, path
        else:
            assert keys == configurable(node["_target_"], own), path
            assert set(signature(node["_target_"])) - {"self"} == own, "the source text and the object disagree"


@pytest.mark.parametrize("name", choices("experiment"))
def test_experiments_set_keys_that_exist(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiment={name}"])
    if "root" in list(cfg.data.keys()):  # also where it is missing
        cfg.data.root = "x"
    check(to_plain(cfg), "train")


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted(groups("train")))
def test_files_are_merged_as_hydra_merges_them(group: str) -> None:
    for name in choices(group):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [f"{group}={name}"])
        assert merged(CONF / group / f"{name}.yaml") == OmegaConf.to_container(cfg[group], resolve=False), name


def test_shared_files_are_no_choices() -> None:
    for folder in {file.parent for file in CONF.rglob("_*.yaml")}:
        assert not [name for name in choices(str(folder.relative_to(CONF))) if name.startswith("_")]


@pytest.mark.parametrize(
    ("value", "annotation", "good"),
    [
        (3, "int", True),
        ("abc", "int", False),
        (2.5, "int", False),
        (True, "int", False),
        (3, "float", True),
        (None, "int | None", True),
        ("a", "Literal['a', 'b']", True),
        ("c", "Literal['a', 'b']", False),
        ([1, 2], "Sequence[int]", True),
        ([1, "x"], "Sequence[int]", False),
        ({"val": 0.1}, "dict[str, float] | None", True),
        ({"val": "x"}, "dict[str, float] | None", False),
        ({0: "a"}, "Mapping[int, str]", True),
        ("no", "bool", False),
        ({"_target_": "x"}, "Recipe | None", True),
        ("x", "Recipe", False),
    ],
)
def test_a_value_matches_its_annotation(value: Any, annotation: str, good: bool) -> None:
    assert matches(value, parse(annotation)) is good


VOC = "datamodules.formats.voc.Voc"


@pytest.mark.parametrize(
    ("node", "code", "named"),
    [
        ({"root": "???"}, "config.missing_value", "data.root"),
        ({"rot": "x"}, "config.unknown_key", "Nearest: data.root"),
        ({"workers": 2}, "config.renamed_key", "num_workers"),
    ],
)
def test_a_wrong_key_of_a_node_is_named(node: dict, code: str, named: str) -> None:
    with refused(code) as error:
        check_node({"_target_": VOC} | node, "data")
    assert named in str(error.value)


def test_a_missing_group_is_named_with_its_choices() -> None:
    with refused("config.missing_group") as error:
        check({"data": {}}, "train")
    assert "backbone=..., one of resnet101" in str(error.value)


@pytest.mark.parametrize("word", ["lr", "recipe.lr"])
def test_a_key_of_the_same_name_in_another_section_is_the_nearest(word: str) -> None:
    assert suggest(word, known_keys("train")).startswith(" Nearest: recipe.optimizer.lr")


def test_the_nearest_is_similar_in_its_last_section() -> None:
    assert "resnet18" in suggest("resnet81", {"resnet18", "resnet50"})
    assert suggest("trainer.max_epoch", known_keys("train")) == " Nearest: trainer.max_epochs"
    assert "logger.project" not in suggest("logger.project", known_keys("train"))


TARGETS = {
    "recipe": "tasks.optim.recipe.Recipe",
    "data": VOC,
    "task": "tasks.detection.Detection",
    "trainer": "resmet.engine.trainer.TrainerConfig",
    "task.tasks": "tasks.joint.Joint",
}


@pytest.mark.parametrize(
    ("path", "value", "code", "remedy"),
    [
        ("recipe.optimizer", "sgd", "config.not_an_object", "choose recipe/optimizer=sgd"),
        ("recipe.optimizer", "foo", "config.not_an_object", "recipe/optimizer=adamw or recipe/optimizer=sgd"),
        ("data.augment", "none", "config.not_an_object", "data.augment."),
        ("data.splits", 3, "config.not_an_object", "data.splits.val"),
        ("task.head", "unet", "config.not_an_object", "task.head.fpn"),
        ("task.tasks.digits", "audio", "config.not_an_object", "choose task@task.tasks.digits=..., one of audio"),
        ("data.root", 2024, "config.wrong_type", "data.root=\"'2024'\""),
        ("trainer.max_epochs", None, "config.wrong_type", "trainer.max_epochs=null must be a whole number"),
        ("data.size", {"_target_": "os.getcwd"}, "config.wrong_type", "data.size must be a whole number or null"),
    ],
)
def test_a_wrong_value_is_refused_with_how_to_set_it(path: str, value: Any, code: str, remedy: str) -> None:
    first, *inner, last = path.split(".")
    target = TARGETS.get(".".join([first, *inner]), TARGETS[first])
    node: dict = {last: value}
    for section in reversed(inner):
        node = {section: node}
    with refused(code) as error:
        check_node({"_target_": target} | node, first)
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"seed": "abc"}, "config.wrong_type", "seed='abc'"),
        ({"run_dir": 3}, "config.wrong_type", "run_dir=3"),
        ({"data": 3}, "config.not_an_object", "data=3"),
        ({"data": {"size": 3}}, "config.not_an_object", "choose data="),
        ({"callbacks": {"foo": 1}}, "config.not_an_object", "Allowed: callbacks."),
        ({"callbacks": {"early_stop": 3}}, "config.not_an_object", "or null to leave it out"),
        ({"logger": {"project": "x"}}, "config.key_of_another_choice", "choose logger=mlflow or logger=wandb"),
        ({"logger": {"_target_": "resmet.engine.loggers.nowhere"}}, "config.missing_package", "pip install"),
        ({"sed": 1}, "config.unknown_key", "seed"),
    ],
)
def test_the_top_of_a_config_is_checked_too(change: dict, code: str, named: str) -> None:
    groups = {name: {"_target_": "elsewhere"} for name in ("task", "backbone", "data", "recipe", "trainer")}
    with refused(code) as error:
        check(groups | change, "train")
    assert named in str(error.value)
