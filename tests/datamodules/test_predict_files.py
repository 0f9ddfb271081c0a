"""Files to predict."""

from pathlib import Path

from data_factories import set_up
from fixture_files import write_image

from datamodules.formats.image_folder import ImageFolder
from datamodules.predict_files import Files


def test_files_of_other_types_are_counted_and_unreadable_ones_named(image_folder: Path) -> None:
    source = image_folder / "test"
    spec = set_up(ImageFolder(str(image_folder))).spec
    (source / "notes.txt").write_text("x")
    (source / "bad.png").write_text("x")
    write_image(source / "deep" / "er" / "1.png", (50, 20))
    files = Files(str(source), spec, batch_size=3)
    assert files.skipped == 1
    batches = list(files)
    assert sum(len(batch["names"]) for batch, _, _ in batches) == 5
    assert [path.name for _, _, errors in batches for path, _ in errors] == ["bad.png"]


def test_hidden_files_and_folders_are_left_out(image_folder: Path) -> None:
    data = ImageFolder(str(image_folder))
    spec = set_up(data).spec
    source = next((image_folder / "train").iterdir())
    before = len(Files(str(image_folder), spec, 3))
    for hidden in (".ipynb_checkpoints/a.png", "._a.png"):
        write_image(source / hidden, (50, 20))
    assert len(Files(str(image_folder), spec, 3)) == before
    again = set_up(ImageFolder(str(image_folder)))
    assert len(again.datasets["train"]) == len(data.datasets["train"])
