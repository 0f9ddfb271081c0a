"""The config of a run that is resumed."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from refusals import refused

from resmet.cli.saved_config import override, read_config, run_of, same_run, split_overrides

CONFIG = {"seed": 0, "time_budget": None, "trainer": {"max_epochs": 2}, "data": {"root": "a", "size": 32}}


def save(folder: Path, config: dict) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_keys_of_the_resumed_run_are_not_for_hydra() -> None:
    arguments = ["--config-dir", "d", "resume=run", "trainer=cpu", "trainer.max_epochs=3", "data.root=x"]
    assert split_overrides(arguments) == (arguments[:4], arguments[4:])
    for other in (["resume=auto", "data.root=x"], ["resume=null", "data.root=x"], ["data.root=x"]):
        assert split_overrides(other) == (other, [])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"data": {"root": "b", "size": 32}}, True),
        ({"trainer": {"max_epochs": 9}}, True),
        ({"data": {"root": "a", "size": 64}}, False),
        ({"seed": 1}, False),
    ],
)
def test_where_a_run_runs_and_how_long_may_change(tmp_path: Path, change: dict, same: bool) -> None:
    assert same_run(OmegaConf.create(CONFIG | change), save(tmp_path, CONFIG)) is same


def test_a_config_with_old_names_is_that_of_the_same_run(tmp_path: Path) -> None:
    old = {("budget" if key == "time_budget" else key): value for key, value in CONFIG.items()}
    assert same_run(OmegaConf.create(CONFIG), save(tmp_path, old))
    assert "time_budget" in read_config(tmp_path)


def test_a_key_that_the_run_does_not_have_is_refused() -> None:
    with refused("config.unknown_key"):
        override(OmegaConf.create(CONFIG), ["trainer.max_epoch=3"])
    with refused("config.renamed_key"):
        override(OmegaConf.create(CONFIG), ["budget=3m"])
    assert override(OmegaConf.create(CONFIG), ["trainer.max_epochs=3"]).trainer.max_epochs == 3


def test_an_interpolation_in_a_run_s_config_is_not_resolved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_config(save(tmp_path, CONFIG | {"seed": "${oc.env:HOME}"}))


def test_a_run_is_named_by_its_folder_or_its_last_checkpoint(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, CONFIG) / "checkpoints"
    checkpoints.mkdir()
    assert [run_of(path) for path in (tmp_path, checkpoints, checkpoints / "last.ckpt")] == [tmp_path] * 3
    with refused("run_dir.not_last_checkpoint"):
        run_of(checkpoints / "best.ckpt")
