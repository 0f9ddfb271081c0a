"""Audio files named in a table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_factories import set_up, split_sizes
from fixture_files import write_wav
from refusals import refused

from datamodules.formats.audio_csv import AudioCsv
from datamodules.splits.splits import Splits


def test_published_split_and_clips_of_one_length(audio_csv: Path) -> None:
    data = set_up(AudioCsv(str(audio_csv), seconds=0.1))
    assert split_sizes(data) == {"train": 6, "val": 2, "test": 4}
    assert data.spec.sample_rate == 8000
    batch = next(iter(data.dataloader("test")))
    assert batch["input"].shape == (4, 1, 800)


def test_short_clips_are_padded_and_long_ones_cropped_to_their_middle(audio_csv: Path) -> None:
    data = set_up(AudioCsv(str(audio_csv), seconds=0.1, splits=Splits(val=0.2)))
    items = {Path(item.name).name: item for own in data.datasets.values() for item in own.items}
    short = data.load(items["0.wav"])[0]
    assert short.shape == (1, 800)
    assert short[0, 600:].abs().max() == 0
    assert short[0, :600].abs().max() > 0.4
    assert data.load(items["11.wav"])[0][0, -100:].abs().max() > 0.4


def test_resampling_preserves_the_pitch(tmp_path: Path) -> None:
    rows = ["path,label"]
    for i, rate in enumerate([8000, 8000, 8000, 8000, 8000, 16000, 44100, 8000]):
        write_wav(tmp_path / f"{i}.wav", 0.5 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate), rate)
        rows.append(f"{i}.wav,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = set_up(AudioCsv(str(tmp_path), splits=Splits(val=0.25, test=0.0)))
    for items in data.datasets.values():
        for i in range(len(items)):
            wave = items.sample(i)[0][0]
            assert wave.shape == (8000,)
            assert torch.fft.rfft(wave).abs().argmax() == 500


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (800, "data.silent_audio"),
        (0, "data.empty_audio"),
        ("cut", "data.truncated_audio"),
        ("text", "data.unreadable_audio"),
        (None, "data.missing_file"),
    ],
)
def test_unusable_clips_are_named(audio_csv: Path, content: int | str | None, code: str) -> None:
    path = audio_csv / "clips" / "3.wav"
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:700])
    elif content == "text":
        path.write_text("no audio")
    else:
        write_wav(path, np.zeros(content))
    with refused(code) as error:
        set_up(AudioCsv(str(audio_csv)))
    assert "3.wav" in str(error.value)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("clips/0.wav,middle,test", "data.unknown_class"),
        ("clips/0.wav,,train", "data.empty_cell"),
        ("../../etc/passwd,low,train", "data.path_outside_root"),
        ("/etc/passwd,low,train", "data.path_outside_root"),
        ("clips/0.wav,low,holdout", "data.unknown_split"),
    ],
)
def test_unusable_rows_are_named(audio_csv: Path, line: str, code: str) -> None:
    with (audio_csv / "table.csv").open("a") as file:
        file.write(line + "\n")
    with refused(code) as error:
        set_up(AudioCsv(str(audio_csv)))
    assert "line 14" in str(error.value)


@pytest.mark.parametrize(
    ("tables", "arguments", "code"),
    [
        ({}, {"columns": {"label": "word"}}, "data.missing_column"),
        ({"second.csv": "path,label\n"}, {}, "data.ambiguous_table"),
        ({"second.csv": "path,label\n"}, {"table": "second.csv"}, "data.empty_table"),
        ({"one.csv": "path,label\nclips/0.wav,low\nclips/2.wav,low\n"}, {"table": "one.csv"}, "data.one_class"),
    ],
)
def test_unusable_tables_are_refused(audio_csv: Path, tables: dict, arguments: dict, code: str) -> None:
    for name, text in tables.items():
        (audio_csv / name).write_text(text)
    with refused(code):
        set_up(AudioCsv(str(audio_csv), **arguments))


def test_several_labels_per_clip(audio_csv: Path) -> None:
    table = audio_csv / "table.csv"
    table.write_text(table.read_text().replace("low", "low|quiet"))
    data = set_up(AudioCsv(str(audio_csv), separator="|"))
    assert data.spec.target == "labels"
    assert data.spec.class_names == ("high", "low", "quiet")
    assert {tuple(item.target.tolist()) for item in data.datasets["train"].items} == {(1, 0, 0), (0, 1, 1)}


@pytest.mark.slow
def test_fsdd(real: Path) -> None:
    data = AudioCsv(str(real / "fsdd"), cache=False)
    found = data.read()
    assert len(found["test"]) == 300
    assert len(found["train"]) + len(found["val"]) == 2700
    assert data.spec.class_names == tuple("0123456789")
