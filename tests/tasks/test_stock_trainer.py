"""Every task trains under Lightning's own Trainer, with Lightning's own callbacks."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from small_runs import DATA, make_task

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", sorted(DATA))
def test_fit_validate_and_test(kind: str, tmp_path: Path) -> None:
    data = DATA[kind]()
    data.setup("fit")
    task = make_task(kind, data)
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", mode="max")
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[checkpoint, EarlyStopping("val/score", mode="max")],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    assert trainer.current_epoch == 2
    best = float(checkpoint.best_model_score)
    (again,) = trainer.validate(task, data, ckpt_path=checkpoint.best_model_path, verbose=False, weights_only=True)
    assert again["val/score"] == pytest.approx(best)
    (tested,) = trainer.test(task, data, verbose=False)
    assert 0 <= tested["test/score"] <= 1
