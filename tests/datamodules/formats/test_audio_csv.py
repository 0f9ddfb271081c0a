"""Sounds in a table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_files import write_wav

from datamodules.formats.audio_csv import AudioCsv
from datamodules.splits.splits import Splits
from foundation.structures import InputError


def prepared(root: Path, **more: object) -> AudioCsv:
    data = AudioCsv(str(root), **more)
    data.setup("fit")
    return data


def test_official_split_and_clips_of_one_length(audio_csv: Path) -> None:
    data = prepared(audio_csv, seconds=0.1)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 6, "val": 2, "test": 4}
    assert data.spec.sample_rate == 8000
    batch = next(iter(data.dataloader("test")))
    assert batch["input"].shape == (4, 1, 800)


def test_short_clips_are_padded_and_long_ones_keep_their_middle(audio_csv: Path) -> None:
    data = prepared(audio_csv, seconds=0.1, splits=Splits(val=0.2))
    items = {Path(i.name).name: i for s in data.datasets.values() for i in s.items}
    short = data.load(items["0.wav"])[0]
    assert short.shape == (1, 800)
    assert short[0, 600:].abs().max() == 0
    assert short[0, :600].abs().max() > 0.4
    assert data.load(items["11.wav"])[0][0, -100:].abs().max() > 0.4


def test_resampling_keeps_the_pitch(tmp_path: Path) -> None:
    rows = ["path,label"]
    for i, rate in enumerate([8000, 8000, 8000, 8000, 8000, 16000, 44100, 8000]):
        write_wav(tmp_path / f"{i}.wav", 0.5 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate), rate)
        rows.append(f"{i}.wav,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = prepared(tmp_path, splits=Splits(val=0.25, test=0.0))
    for items in data.datasets.values():
        for i in range(len(items)):
            wave = items.sample(i)[0][0]
            assert wave.shape == (8000,)
            assert torch.fft.rfft(wave).abs().argmax() == 500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("silent", "is silent"),
        ("empty", "is empty"),
        ("cut", "is truncated"),
        ("text", "can't be read as audio"),
        ("missing", "there is no file"),
    ],
)
def test_clips_that_cannot_be_used(audio_csv: Path, content: str, said: str) -> None:
    path = audio_csv / "clips" / "3.wav"
    if content == "silent":
        write_wav(path, np.zeros(800))
    elif content == "empty":
        write_wav(path, np.zeros(0))
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:700])
    elif content == "text":
        path.write_text("no sound")
    else:
        path.unlink()
    with pytest.raises(InputError, match=said) as caught:
        prepared(audio_csv)
    assert "3.wav" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("clips/0.wav,middle,test", "line 14: the label 'middle' is not one of the training classes"),
        ("clips/0.wav,,train", "line 14: label is empty"),
        ("../../etc/passwd,low,train", "line 14: .* leads out of"),
        ("/etc/passwd,low,train", "line 14: .* leads out of"),
        ("clips/0.wav,low,holdout", "line 14: the split 'holdout' is none of"),
    ],
)
def test_rows_that_cannot_be_used(audio_csv: Path, line: str, said: str) -> None:
    with (audio_csv / "table.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=said):
        prepared(audio_csv)


def test_tables_that_cannot_be_used(audio_csv: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'word'; it has \['path', 'label', 'split'\]"):
        prepared(audio_csv, columns={"label": "word"})
    (audio_csv / "second.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"found second.csv, table.csv: say which"):
        prepared(audio_csv)
    with pytest.raises(InputError, match="has no rows"):
        prepared(audio_csv, table="second.csv")
    (audio_csv / "one.csv").write_text("path,label\nclips/0.wav,low\nclips/2.wav,low\n")
    with pytest.raises(InputError, match=r"one class only \(low\)"):
        prepared(audio_csv, table="one.csv")


@pytest.mark.slow
def test_fsdd(real: Path) -> None:
    data = AudioCsv(str(real / "fsdd"), cache=False)
    found = data.read()
    assert len(found["test"]) == 300
    assert len(found["train"]) + len(found["val"]) == 2700
    assert data.spec.class_names == tuple("0123456789")
