"""Checkpoints of the first release, with its names of classes, keys and fields, evaluate to the metrics that it computed."""

import json
import logging
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from resmet.commands import evaluate

ROOT = Path(__file__).parents[2]
FIXTURES = sorted((ROOT / "tests" / "fixtures" / "first_build").glob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", FIXTURES, ids=lambda path: path.stem)
def test_a_checkpoint_of_the_first_release_has_the_same_metrics(checkpoint: Path, tmp_path: Path) -> None:
    """The data is read as the checkpoint's own config says."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = [f"ckpt={checkpoint}", f"run_dir={tmp_path / 'run'}", "trainer=cpu"]
        cfg = compose("evaluate", words)
    logger = logging.getLogger("resmet")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        evaluate.run(cfg)
    finally:
        for handler in set(logger.handlers) - set(before[0]):
            handler.close()
        logger.handlers, logger.level, logger.propagate = before
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    old = json.loads(checkpoint.with_suffix(".json").read_text())
    assert {key: metrics[key] for key in old if key != "versions"} == {
        key: old[key] for key in old if key != "versions"
    }
