"""The format of a folder, by what lies in it."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from fixture_files import write_image, write_wav

from datamodules.base.csv_columns import find_path_table
from resmet.data_checks.run.arguments import to_overrides
from resmet.data_checks.scan.files import FILE_TYPES, mismatch, read_tree, sniff
from resmet.data_checks.scan.formats import recognize

HEADS = {
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF89a",
    "BMP": b"BM\x36\x10\0\0\0\0\0\0",
    "WebP": b"RIFF\x10\0\0\0WEBPVP8 ",
    "TIFF": b"MM\0\x2a",
    "PNM": b"P5 3 3 255 ",
    "WAV": b"RIFF\x10\0\0\0WAVEfmt ",
    "FLAC": b"fLaC\0",
    "Ogg": b"OggS\0",
    "MP3": b"\xff\xfb\x90\0",
    "AVI": b"RIFF\x10\0\0\0AVI LIST",
    "QuickTime": b"\0\0\0\x14ftypqt  ",
    "MP4": b"\0\0\0\x20ftypisom",
    "Matroska": b"\x1a\x45\xdf\xa3",
    "MPEG": b"\0\0\x01\xba",
}


def best(root: Path) -> str:
    guesses = recognize(root, read_tree(root))
    return guesses[0].format if guesses else ""


def test_file_types_are_recognized_by_their_first_bytes(tmp_path: Path) -> None:
    assert set(HEADS) == set(FILE_TYPES)
    for kind, head in HEADS.items():
        for suffix in FILE_TYPES[kind].suffixes:
            path = tmp_path / f"right{suffix.upper()}"
            path.write_bytes(head + bytes(64))
            assert sniff(path) == kind
            assert mismatch(path) == ""
        wrong = tmp_path / f"wrong{'.wav' if kind != 'WAV' else '.png'}"
        wrong.write_bytes(head + bytes(64))
        assert mismatch(wrong) == kind


def test_folder_formats_are_recognized(image_folder: Path, mask_folder: Path, voc: Path, audio_csv: Path) -> None:
    assert [best(root) for root in (image_folder, mask_folder, voc, audio_csv)] == [
        "image_folder",
        "mask_folder",
        "voc",
        "audio_csv",
    ]
    (voc / "Annotations").rename(voc / "annotations")
    (voc / "JPEGImages").rename(voc / "images")
    assert best(voc) == "voc"


def test_idx_audio_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "idx").mkdir()
    for name, head in (("train-images-idx3-ubyte", b"\0\0\x08\x03"), ("train-labels-idx1-ubyte", b"\0\0\x08\x01")):
        (tmp_path / "idx" / f"{name}.gz").write_bytes(
            gzip.compress(head + (3).to_bytes(4, "big") * head[3] + bytes(27))
        )
    guess = recognize(tmp_path / "idx", read_tree(tmp_path / "idx"))[0]
    assert guess.format == "idx"
    assert "train-images-idx3-ubyte.gz 3x3x3" in guess.match.reason
    for name in ("yes", "no"):
        write_wav(tmp_path / "sounds" / name / "1.wav", np.zeros(100))
    assert best(tmp_path / "sounds") == "audio_folder"
    write_image(tmp_path / "heap" / "1.png")
    assert best(tmp_path / "heap") == ""


def test_several_labels_in_a_table(tmp_path: Path) -> None:
    for i in range(6):
        write_image(tmp_path / f"{i}.png")
    lines = [f"{i}.png,{('a|b', 'b', 'a', 'a|c', 'c', '')[i]}" for i in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["path,tags", *lines]))
    assert recognize(tmp_path, read_tree(tmp_path))[0].match.settings == {
        "columns": {"label": "tags"},
        "separator": "|",
    }
    lines = [f"{i}.png,{i % 2},{i // 3}" for i in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["path,cat,dog", *lines]))
    assert recognize(tmp_path, read_tree(tmp_path))[0].match.settings == {"label_columns": ["cat", "dog"]}


@pytest.mark.parametrize("word", ["patient", "Speaker", "subject_id", "Session"])
def test_group_columns_are_recognized_by_name(tmp_path: Path, word: str) -> None:
    write_image(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text(f"path,label,{word}\n1.png,a,x\n")
    table = find_path_table(tmp_path, read_tree(tmp_path), {".png"})
    assert table is not None
    assert table.columns["group"] == word


def test_a_folder_becomes_overrides(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(voc.parent)
    assert to_overrides(["voc", "json=a.json"]) == ["root=voc", "json=a.json"]
    assert to_overrides(["voc", "data=coco"]) == ["root=voc", "data=coco", "data.root=voc"]
    assert to_overrides(["voc", "data.size=3"]) == ["root=voc", "data.size=3", "data=voc", "data.root=voc"]
    assert to_overrides(["no where"]) == ["root='no where'"]
    assert to_overrides(["--help"]) == ["--help"]
