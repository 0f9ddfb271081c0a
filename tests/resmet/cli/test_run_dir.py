"""The folder of a run."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from resmet.cli.run_dir import resolve_resume


def test_auto_resume_ignores_unrelated_runs_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, content in enumerate(("a: [", "- a", "a: ${oc.env:HOME}")):
        folder = tmp_path / "outputs" / "classification" / str(number)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(content)
    task = {"_target_": "tasks.classification.Classification"}
    config, folder = resolve_resume(OmegaConf.create({"seed": 0, "resume": "auto", "run_dir": None, "task": task}))
    assert config.resume is None
    assert not folder.exists()
