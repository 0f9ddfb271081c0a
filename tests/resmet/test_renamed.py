"""Old names lead to present ones."""

from pathlib import Path

import pytest

from resmet import renamed
from resmet.assembly import allowed
from resmet.cli.conf_files import choices, known_keys

SUPPORT = Path(__file__).parents[1] / "support"
COMMANDS = ("train", "evaluate", "predict", "doctor", "pack", "sweep")


def lines(name: str) -> list[str]:
    return (SUPPORT / name).read_text().splitlines()


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every key that some command knows."""
    keys = {key for command in COMMANDS for key in known_keys(command)}
    return keys | {f"data.{group}" for group in choices("data")}


def test_every_key_of_the_first_release_is_known_or_answered(known: set[str]) -> None:
    lost = {key: renamed.new_name(key) for key in lines("first_build_keys.txt") if key not in known}
    wrong = {
        k: new
        for k, new in lost.items()
        if not new or not all(n in known for n in new.replace(" and ", ", ").split(", "))
    }
    assert not wrong


def test_every_name_in_the_table_is_present(known: set[str]) -> None:
    new = {name for names in renamed.KEYS.values() for name in ([names] if isinstance(names, str) else names)}
    assert not new - known


@pytest.mark.parametrize("target", lines("first_build_targets.txt"))
def test_every_class_that_the_first_release_named_can_be_built(target: str) -> None:
    assert allowed(renamed.TARGETS.get(target, target))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "every": "checkpoint_every",
        "data.workers": "data.loading.num_workers",
        "data.augment.shift": "data.augment.translate",
        "recipe.plan": "recipe.freeze",
        "recipe.plan.waking": "recipe.freeze.unfreezing",
        "trainer.limit": ("trainer.limit_train_batches", "trainer.limit_val_batches"),
    }
    monkeypatch.setattr(renamed, "KEYS", keys)
    monkeypatch.setattr(renamed, "ONLY", {"data.augment.shift": "Augment"})
    monkeypatch.setattr(renamed, "NODES", {"data.loading": "datamodules.base.Loading"})
    monkeypatch.setattr(renamed, "TARGETS", {"tasks.freezing.FreezeSchedule": "tasks.optim.freezing.FreezeSchedule"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("every", "checkpoint_every"),
        ("recipe.plan", "recipe.freeze"),
        ("recipe.plan.waking", "recipe.freeze.unfreezing"),
        ("recipe.plan.frozen", "recipe.freeze.frozen"),
        ("data.parts.shapes.workers", "data.parts.shapes.loading.num_workers"),
        ("trainer.limit", "trainer.limit_train_batches and trainer.limit_val_batches"),
        ("trainer.every", None),
        ("recipe.optimizer.lr", None),
    ],
)
def test_an_old_key_has_a_new_name(table: None, old: str, new: str | None) -> None:
    assert renamed.new_name(old) == new


def test_a_config_is_converted_at_every_depth(table: None) -> None:
    old = {
        "every": "10m",
        "seed": 0,
        "data": {
            "_target_": "Joint",
            "parts": {
                "a": {"workers": 2, "augment": {"_target_": "x.Augment", "shift": 0.1}},
                "b": {"augment": {"_target_": "x.SoundAugment", "shift": 0.2}},
            },
        },
        "recipe": {"plan": {"_target_": "tasks.freezing.FreezeSchedule", "frozen": 0.5, "waking": 0.1}},
        "trainer": {"limit": 3},
    }
    new = renamed.convert_config(old)
    assert new == {
        "checkpoint_every": "10m",
        "seed": 0,
        "data": {
            "_target_": "Joint",
            "parts": {
                "a": {
                    "loading": {"_target_": "datamodules.base.Loading", "num_workers": 2},
                    "augment": {"_target_": "x.Augment", "translate": 0.1},
                },
                "b": {"augment": {"_target_": "x.SoundAugment", "shift": 0.2}},
            },
        },
        "recipe": {"freeze": {"_target_": "tasks.optim.freezing.FreezeSchedule", "frozen": 0.5, "unfreezing": 0.1}},
        "trainer": {"limit_train_batches": 3, "limit_val_batches": 3},
    }
    assert renamed.convert_config(new) == new
    assert old["every"] == "10m", "the argument is unchanged"


def test_an_empty_config_stays_empty() -> None:
    assert renamed.convert_config({}) == {}
