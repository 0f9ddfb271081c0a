"""Audio files in class folders, in every file type."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from data_factories import set_up, split_sizes
from fixture_files import write_wav
from refusals import refused

from datamodules.decoding.audio import read_audio
from datamodules.formats.audio_folder import AudioFolder

PITCHES = (("low", 300), ("high", 900))


def tone(hertz: float, rate: int, seconds: float = 0.3) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def test_wav_flac_ogg_mp3_of_any_rate_and_stereo(tmp_path: Path) -> None:
    files = [("wav", 8000), ("flac", 16000), ("ogg", 22050), ("mp3", 44100), ("wav", 11025)]
    for name, hertz in PITCHES:
        (tmp_path / name).mkdir()
        for i, (suffix, rate) in enumerate(files):
            wave = tone(hertz, rate)
            soundfile.write(tmp_path / name / f"{i}.{suffix}", np.stack([wave, wave], 1) if i % 2 else wave, rate)
    data = set_up(AudioFolder(str(tmp_path), sample_rate=8000))
    assert data.spec.class_names == ("high", "low")
    assert sum(split_sizes(data).values()) == 10
    for items in data.datasets.values():
        for i in range(len(items)):
            clip, label = items.sample(i)
            peak = np.abs(np.fft.rfft(clip[0].numpy())).argmax() * 8000 / clip.shape[1]
            assert abs(peak - (900, 300)[label]) < 10


def test_splits_and_refusals(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for name, hertz in PITCHES:
            for i in range(count):
                write_wav(tmp_path / split / name / f"{i}.wav", tone(hertz, 8000))
    assert split_sizes(set_up(AudioFolder(str(tmp_path)))) == {"train": 4, "val": 2, "test": 2}
    write_wav(tmp_path / "train" / "low" / "9.wav", np.zeros(800))
    with refused("data.silent_audio") as error:
        set_up(AudioFolder(str(tmp_path)))
    assert "9.wav" in str(error.value)
    assert len(set_up(AudioFolder(str(tmp_path), on_error="skip")).skipped) == 1
    with refused("data.no_items"):
        set_up(AudioFolder(str(tmp_path / "test" / "low")))


@pytest.mark.parametrize("name", ["long" * 30 + ".mp3", "a.wav", "missing.wav"])
def test_files_that_are_not_audio_are_refused(name: str, tmp_path: Path) -> None:
    if name != "missing.wav":
        (tmp_path / name).write_text("hi")
    with refused("data.missing_file" if name == "missing.wav" else "data.unreadable_audio"):
        read_audio(tmp_path / name, 8000)
