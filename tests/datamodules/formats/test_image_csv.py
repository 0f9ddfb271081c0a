"""Images named in a table."""

from pathlib import Path

import pytest
from fixture_files import write_image

from datamodules.formats.image_csv import ImageCsv
from datamodules.splits.splits import Splits
from foundation.structures import InputError


def table(root: Path, header: str, rows: list[str]) -> Path:
    for i in range(12):
        write_image(root / "files" / f"{i}.png", color=40 + 12 * i)
    (root / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def prepared(root: Path, **arguments: object) -> ImageCsv:
    data = ImageCsv(str(root), **arguments)
    data.setup("fit")
    return data


def test_one_class_split_and_group(tmp_path: Path) -> None:
    rows = [
        f"files/{i}.png,{'dark' if i < 6 else 'light'},{'test' if i % 6 == 0 else 'train'},p{i // 2}" for i in range(12)
    ]
    data = prepared(table(tmp_path, "path,label,split,patient", rows), columns={"group": "patient"}, splits=Splits(0.3))
    assert data.spec.class_names == ("dark", "light")
    assert [len(data.datasets["test"])] == [2]
    groups = [{item.group for item in data.datasets[name].items} for name in ("train", "val")]
    assert groups[0].isdisjoint(groups[1])


def test_semicolons_a_folder_and_no_suffix(tmp_path: Path) -> None:
    rows = [f"{i};{'a' if i % 2 else 'b'}" for i in range(12)]
    data = prepared(
        table(tmp_path, "image_id;kind", rows), columns={"path": "image_id", "label": "kind"}, folder="files"
    )
    assert data.spec.class_names == ("a", "b")
    assert data.datasets["train"].items[0].name.endswith(".png")


def test_several_classes_in_one_column(tmp_path: Path) -> None:
    words = ["cat|dog", "cat", "", "dog | bird"] * 3
    data = prepared(table(tmp_path, "path,label", [f"files/{i}.png,{w}" for i, w in enumerate(words)]), separator="|")
    assert data.spec.target == "labels"
    assert data.spec.class_names == ("bird", "cat", "dog")
    found = {Path(i.name).stem: i.target.tolist() for s in data.datasets.values() for i in s.items}
    assert (found["0"], found["2"], found["3"]) == ([0, 1, 1], [0, 0, 0], [1, 0, 1])
    assert sum(data.spec.counts) == sum(sum(i.target.tolist()) for i in data.datasets["train"].items)


def test_a_column_a_class(tmp_path: Path) -> None:
    rows = [f"files/{i}.png,{i % 2},{int(i > 5)},x" for i in range(12)]
    data = prepared(table(tmp_path, "path,wet,cold,who", rows), label_columns=["wet", "cold"])
    assert data.spec.class_names == ("wet", "cold")
    found = {Path(i.name).stem: i.target.tolist() for s in data.datasets.values() for i in s.items}
    assert (found["1"], found["6"]) == ([1, 0], [0, 1])


@pytest.mark.parametrize(
    ("header", "row", "arguments", "said"),
    [
        ("path,label", "files/99.png,a", {}, r"line 14: there is no file .*99\.png"),
        ("path,label", "../../x.png,a", {}, "line 14: .* leads out of"),
        ("path,label", ",a", {}, "line 14: path is empty"),
        ("file,label", "files/0.png,a", {}, "has no column 'path'; it has"),
        (
            "path,label",
            "files/0.png,a",
            {"columns": {"speaker": "x"}},
            "no entry speaker: allowed are path, label, split, group",
        ),
        ("path,label", "files/0.png,2", {"label_columns": ["label"]}, "label is 'b': it must be 0 or 1"),
        ("path,label", "files/0.png,a", {"separator": "|", "balanced": True}, "balanced needs one class per item"),
        ("path,label", "files/0.png,a", {"table": "../table.csv"}, "there is no such file"),
    ],
)
def test_refusals(tmp_path: Path, header: str, row: str, arguments: dict, said: str) -> None:
    rows = [f"files/{i}.png,{'a' if i % 2 else 'b'}" for i in range(12)]
    with pytest.raises(InputError, match=said):
        prepared(table(tmp_path, header, [*rows, row]), **arguments)


def test_bad_rows_and_files_are_left_out_when_asked(tmp_path: Path) -> None:
    rows = [f"files/{i}.png,{'a' if i % 2 else 'b'},train" for i in range(12)]
    bad = [
        "files/99.png,a,train",
        "files/1.png,,train",
        "files/2.png,c,test",
        "files/3.png,a,holdout",
        "../x.png,a,train",
    ]
    root = table(tmp_path, "path,label,split", [*rows, *bad])
    (root / "files" / "4.png").write_bytes(b"cut")
    with pytest.raises(InputError):
        prepared(root)
    data = prepared(root, on_error="skip")
    assert sum(len(items) for items in data.datasets.values()) == 11
    assert len(data.skipped) == 6
    assert any("6 items can't be used and are skipped" in note for note in data.notes)
    assert next(iter(data.train_dataloader()))["target"].max() == 1


def test_everything_left_out_is_refused(tmp_path: Path) -> None:
    rows = [f"files/{i}.png,{'a' if i % 2 else 'b'}" for i in range(12)]
    root = table(tmp_path, "path,label", rows)
    for path in (root / "files").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no item to use as train .* 12 items were skipped, such as"):
        prepared(root, on_error="skip")
