"""With which precision a checkpoint is judged, and where."""

from pathlib import Path

import pytest
from refusals import refused

from resmet.cli.free_dir import free_dir
from resmet.engine.evaluate import evaluation_precision


@pytest.mark.parametrize(
    ("asked", "trained", "said"),
    [
        ("auto", "32-true", "32-true"),
        ("auto", "bf16-mixed", "bf16-mixed"),
        ("auto", "auto", "auto"),
        ("64-true", "bf16-mixed", "64-true"),
    ],
)
def test_the_precision_of_the_training_unless_another_is_asked_for(asked: str, trained: str, said: str) -> None:
    assert evaluation_precision(asked, {"trainer": {"precision": trained}}) == said


@pytest.mark.parametrize("card", [True, False])
def test_what_only_a_card_computes(card: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: card)
    assert evaluation_precision("auto", {"trainer": {"precision": "16-mixed"}}) == ("16-mixed" if card else "auto")
    assert evaluation_precision("auto", {}) == "auto"


@pytest.mark.parametrize(("kind", "resumes"), [("evaluate", False), ("predict", False), ("detection", True)])
def test_only_a_training_can_be_resumed(kind: str, resumes: bool, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").touch()
    with refused("run_dir.not_empty") as caught:
        free_dir(str(tmp_path), kind)
    assert ("resume=" in str(caught.value)) is resumes
