"""The precision that a checkpoint is evaluated with, and the folder."""

from pathlib import Path

import pytest
from refusals import refused

from resmet.cli.run_dir import free_dir
from resmet.engine.evaluate import evaluation_precision


@pytest.mark.parametrize(
    ("requested", "trained", "expected"),
    [
        ("auto", "32-true", "32-true"),
        ("auto", "bf16-mixed", "bf16-mixed"),
        ("auto", "auto", "auto"),
        ("64-true", "bf16-mixed", "64-true"),
    ],
)
def test_the_precision_is_that_of_the_training_unless_another_is_requested(
    requested: str, trained: str, expected: str
) -> None:
    assert evaluation_precision(requested, {"trainer": {"precision": trained}}) == expected


@pytest.mark.parametrize("gpu", [True, False])
def test_fp16_needs_a_gpu(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert evaluation_precision("auto", {"trainer": {"precision": "16-mixed"}}) == ("16-mixed" if gpu else "auto")
    assert evaluation_precision("auto", {}) == "auto"


@pytest.mark.parametrize(("kind", "resumes"), [("evaluate", False), ("predict", False), ("detection", True)])
def test_only_a_training_can_be_resumed(kind: str, resumes: bool, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").touch()
    with refused("run_dir.not_empty") as caught:
        free_dir(str(tmp_path), kind)
    assert ("resume=" in str(caught.value)) is resumes
