"""Every config is its constructor."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.structures import InputError
from resmet.assembly import allowed
from resmet.cli.schema import HYDRA, fits, signature
from resmet.cli.validate import check, check_node, configurable, known_keys, near

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every node with a ``_target_``, at any depth."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for key, inner in value.items():
            yield from nodes(inner, f"{path}.{key}")


def whole(file: Path) -> dict:
    """A file with the files of its own group that its defaults name."""
    content = yaml.safe_load(file.read_text()) or {}
    base = {}
    for entry in content.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_" and "@" not in entry:
            base |= whole(file.with_name(f"{entry}.yaml"))
        elif isinstance(entry, dict):
            base |= {key.rsplit("@")[-1].split(".")[0]: {} for key in entry}
    return base | {key: value for key, value in content.items() if key != "defaults"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_keys_equal_the_signature(file: Path) -> None:
    for path, node in nodes(whole(file)):
        module, _, name = node["_target_"].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        assert allowed(node["_target_"]), path
        keys, own = set(node) - HYDRA, set(inspect.signature(target).parameters)
        if target.__module__.split(".")[0] in ("torch", "lightning"):
            assert keys <= own, path
        else:
            assert keys == configurable(node["_target_"], own), path
            assert set(signature(node["_target_"])) - {"self"} == own, "the source text and the object disagree"


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
    ],
)
def test_types(value: Any, annotation: str, good: bool) -> None:
    assert fits(value, annotation) is good


def test_unknown_and_missing_keys() -> None:
    node = {"_target_": "datamodules.formats.voc.Voc", "root": "???"}
    with pytest.raises(InputError, match="data.root is required"):
        check_node(node, "data")
    with pytest.raises(InputError, match=r"no key data.rot. Nearest: data.root"):
        check_node({"_target_": "datamodules.formats.voc.Voc", "rot": "x"}, "data")
    with pytest.raises(InputError, match="must be a whole number"):
        check_node({"_target_": "datamodules.formats.voc.Voc", "root": "x", "batch_size": "many"}, "data")
    with pytest.raises(InputError, match=r"backbone is missing: say backbone=\.\.\., one of resnet101"):
        check({"data": {}}, "train")
    assert "resnet18" in near("resnet81", {"resnet18", "resnet50"})


def test_a_key_of_that_very_name_elsewhere_is_the_nearest() -> None:
    for word in ("lr", "recipe.lr"):
        assert "Nearest: recipe.optimizer.lr" in near(word, known_keys("train"))
    assert "Nearest: data.batch_size" in near("batch_size", known_keys("train"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("recipe.optimizer", "sgd", "say recipe/optimizer=sgd$"),
        ("recipe.optimizer", "foo", "say recipe/optimizer=adamw or recipe/optimizer=sgd"),
        ("recipe.plan", "x", r"set its keys, recipe.plan.frozen"),
        ("data.augment", "none", r"set its keys, data.augment.flip"),
        ("data.splits", 3, r"set its keys, data.splits.val"),
        ("task.head", "unet", r"set its keys, task.head.width, .*task.head.pool$"),
        ("data.root", 2024, r"must be text: as text it is data.root=\"'2024'\""),
        ("trainer.max_epochs", None, "trainer.max_epochs=null must be a whole number"),
        ("task.tasks.digits", "audio", r"say task@task.tasks.digits=\.\.\., one of audio"),
        ("data.size", {"_target_": "os.getcwd"}, "data.size must be a whole number or null, not a part"),
    ],
)
def test_what_is_no_part_is_refused_where_one_is_meant(path: str, value: Any, said: str) -> None:
    targets = {
        "recipe": "tasks.optim.recipe.Recipe",
        "data": "datamodules.formats.voc.Voc",
        "task": "tasks.joint.Joint" if "tasks" in path else "tasks.detection.Detection",
        "trainer": "resmet.engine.trainer.make_trainer",
    }
    first, *inner, last = path.split(".")
    node: dict = {last: value} | ({} if inner else {"_target_": targets[first]})
    if inner:
        node = {"_target_": targets[first], inner[0]: node}
    with pytest.raises(InputError, match=said):
        check_node(node, first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "abc"}, "^seed='abc' must be a whole number"),
        ({"run_dir": 3}, "^run_dir=3 must be text or null"),
        ({"data": 3}, "data=3 names nothing that can be built: say data="),
        ({"data": {"size": 3}}, "names nothing that can be built: say data="),
        ({"callbacks": {"foo": 1}}, "callbacks.foo is no part .* Allowed: callbacks.early_stop, "),
        ({"callbacks": {"pictures": 3}}, "or null to leave it out"),
        ({"logger": {"project": "x"}}, "choose logger=mlflow or logger=wandb"),
        ({"logger": {"_target_": "resmet.engine.loggers.nowhere"}}, "logger=nowhere needs its package: pip install"),
    ],
)
def test_the_top_of_a_config_is_judged_too(change: dict, said: str) -> None:
    groups = {name: {"_target_": "elsewhere"} for name in ("task", "backbone", "data", "recipe", "trainer")}
    with pytest.raises(InputError, match=said):
        check(groups | change, "train")


def test_the_nearest_is_another_word_and_no_mere_neighbour() -> None:
    known = known_keys("train")
    assert near("trainer.max_epoch", known) == " Nearest: trainer.max_epochs"
    assert "logger.project" not in near("logger.project", known)
