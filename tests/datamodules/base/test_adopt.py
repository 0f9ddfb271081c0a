"""Other data than a checkpoint was trained on."""

from pathlib import Path

from fixture_files import write_image

from datamodules.formats.image_folder import ImageFolder
from datamodules.predict_files import Files


def test_data_without_splits_is_judged_whole(image_folder: Path) -> None:
    own = ImageFolder(str(image_folder))
    own.setup("fit")
    other = ImageFolder(str(image_folder / "train"))
    other.use_spec(own.spec, other_data=True)
    other.setup_splits(["test"], ["test"])
    assert len(other.datasets["test"]) == 12
    assert not other.datasets["test"].random


def test_files_of_another_kind_are_counted_and_broken_ones_named(image_folder: Path) -> None:
    own = ImageFolder(str(image_folder))
    own.setup("fit")
    source = image_folder / "test"
    (source / "notes.txt").write_text("x")
    (source / "bad.png").write_text("x")
    write_image(source / "deep" / "er" / "1.png", (50, 20))
    files = Files(str(source), own.spec, batch_size=3)
    assert files.skipped == 1
    batches = list(files)
    assert sum(len(batch["names"]) for batch, _, _ in batches) == 5
    assert [path.name for _, _, errors in batches for path, _ in errors] == ["bad.png"]
