"""Images named in a table."""

from pathlib import Path

import pytest
from data_factories import set_up
from fixture_files import write_image
from refusals import refused

from datamodules.formats.image_csv import ImageCsv
from datamodules.splits.splits import Splits

ROWS = [f"files/{i}.png,{'a' if i % 2 else 'b'}" for i in range(12)]


def write(root: Path, header: str, rows: list[str]) -> str:
    for i in range(12):
        write_image(root / "files" / f"{i}.png", color=40 + 12 * i)
    (root / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(root)


def targets(data: ImageCsv) -> dict[str, list[int]]:
    return {Path(item.name).stem: item.target.tolist() for own in data.datasets.values() for item in own.items}


def test_label_split_and_group(tmp_path: Path) -> None:
    rows = [
        f"files/{i}.png,{'dark' if i < 6 else 'light'},{'test' if i % 6 == 0 else 'train'},p{i // 2}" for i in range(12)
    ]
    root = write(tmp_path, "path,label,split,patient", rows)
    data = set_up(ImageCsv(root, columns={"group": "patient"}, splits=Splits(0.3)))
    assert data.spec.class_names == ("dark", "light")
    assert len(data.datasets["test"]) == 2
    train, val = ({item.group for item in data.datasets[name].items} for name in ("train", "val"))
    assert train.isdisjoint(val)


def test_semicolons_a_folder_and_no_suffix(tmp_path: Path) -> None:
    root = write(tmp_path, "image_id;kind", [f"{i};{'a' if i % 2 else 'b'}" for i in range(12)])
    data = set_up(ImageCsv(root, columns={"path": "image_id", "label": "kind"}, folder="files"))
    assert data.spec.class_names == ("a", "b")
    assert data.datasets["train"].items[0].name.endswith(".png")


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    cells = ["cat|dog", "cat", "", "dog | bird"] * 3
    root = write(tmp_path, "path,label", [f"files/{i}.png,{cell}" for i, cell in enumerate(cells)])
    data = set_up(ImageCsv(root, separator="|"))
    assert data.spec.target == "labels"
    assert data.spec.class_names == ("bird", "cat", "dog")
    found = targets(data)
    assert (found["0"], found["2"], found["3"]) == ([0, 1, 1], [0, 0, 0], [1, 0, 1])
    assert sum(data.spec.counts) == sum(sum(item.target.tolist()) for item in data.datasets["train"].items)


def test_label_columns(tmp_path: Path) -> None:
    root = write(tmp_path, "path,wet,cold,who", [f"files/{i}.png,{i % 2},{int(i > 5)},x" for i in range(12)])
    data = set_up(ImageCsv(root, label_columns=["wet", "cold"]))
    assert data.spec.class_names == ("wet", "cold")
    assert (targets(data)["1"], targets(data)["6"]) == ([1, 0], [0, 1])


@pytest.mark.parametrize(
    ("header", "row", "arguments", "code", "place"),
    [
        ("path,label", "files/99.png,a", {}, "data.missing_file", "line 14"),
        ("path,label", "../../x.png,a", {}, "data.path_outside_root", "line 14"),
        ("path,label", ",a", {}, "data.empty_cell", "line 14"),
        ("file,label", "files/0.png,a", {}, "data.missing_column", "'path'"),
        ("path,label", "files/0.png,a", {"columns": {"speaker": "x"}}, "data.unknown_column_role", "speaker"),
        ("path,label", "files/0.png,2", {"label_columns": ["label"]}, "data.invalid_label", "'b'"),
        ("path,label", "files/0.png,a", {"separator": "|", "balanced": True}, "data.balanced_labels", ""),
        ("path,label", "files/0.png,a", {"table": "../table.csv"}, "data.missing_file", "../table.csv"),
    ],
)
def test_invalid_tables_are_refused(
    tmp_path: Path, header: str, row: str, arguments: dict, code: str, place: str
) -> None:
    with refused(code) as error:
        set_up(ImageCsv(write(tmp_path, header, [*ROWS, row]), **arguments))
    assert place in str(error.value)


def test_invalid_rows_and_files_are_skipped_on_request(tmp_path: Path) -> None:
    rows = [
        "files/99.png,a,train",
        "files/1.png,,train",
        "files/2.png,c,test",
        "files/3.png,a,holdout",
        "../x.png,a,train",
    ]
    root = write(tmp_path, "path,label,split", [f"{row},train" for row in ROWS] + rows)
    (tmp_path / "files" / "4.png").write_bytes(b"cut")
    with refused("data.unusable_items"):
        set_up(ImageCsv(root))
    data = set_up(ImageCsv(root, on_error="skip"))
    assert sum(len(items) for items in data.datasets.values()) == 11
    assert len(data.skipped) == 6
    assert any(note.startswith("6 items") for note in data.notes)
    assert next(iter(data.train_dataloader()))["target"].max() == 1


def test_skipping_every_item_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, "path,label", ROWS)
    for path in (tmp_path / "files").iterdir():
        path.write_bytes(b"")
    with refused("data.empty_split") as error:
        set_up(ImageCsv(root, on_error="skip"))
    assert "12" in str(error.value)
