"""Old names lead to present ones."""

import pytest

from resmet import renamed


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
