"""Sounds in a folder a class, in every file type."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixture_files import write_wav
from refusals import refused

from datamodules.decoding.audio import read_audio
from datamodules.formats.audio_folder import AudioFolder
from foundation.structures import InputError


def tone(hertz: float, rate: int, seconds: float = 0.3) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def prepared(root: Path, **arguments: object) -> AudioFolder:
    data = AudioFolder(str(root), **arguments)
    data.setup("fit")
    return data


def test_wav_flac_ogg_mp3_of_any_rate_and_stereo(tmp_path: Path) -> None:
    for name, hertz in (("low", 300), ("high", 900)):
        (tmp_path / name).mkdir()
        for i, (suffix, rate) in enumerate(
            [("wav", 8000), ("flac", 16000), ("ogg", 22050), ("mp3", 44100), ("wav", 11025)]
        ):
            wave = tone(hertz, rate)
            stereo = np.stack([wave, wave], 1)
            soundfile.write(tmp_path / name / f"{i}.{suffix}", stereo if i % 2 else wave, rate)
    data = prepared(tmp_path, sample_rate=8000)
    assert data.spec.class_names == ("high", "low")
    assert sum(len(items) for items in data.datasets.values()) == 10
    for items in data.datasets.values():
        for i in range(len(items)):
            clip, label = items.sample(i)
            spectrum = np.abs(np.fft.rfft(clip[0].numpy()))
            heard = spectrum.argmax() * 8000 / clip.shape[1]
            assert abs(heard - (900, 300)[label]) < 10


def test_splits_and_refusals(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for name, hertz in (("low", 300), ("high", 900)):
            for i in range(count):
                write_wav(tmp_path / split / name / f"{i}.wav", tone(hertz, 8000))
    data = prepared(tmp_path)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 4, "val": 2, "test": 2}
    write_wav(tmp_path / "train" / "low" / "9.wav", np.zeros(800))
    with pytest.raises(InputError, match=r"9\.wav is silent"):
        prepared(tmp_path)
    assert len(prepared(tmp_path, on_error="skip").skipped) == 1
    with pytest.raises(InputError, match="holds no sounds in class folders"):
        prepared(tmp_path / "test" / "low")


def test_what_is_wrong_with_a_file_is_said_whole(tmp_path: Path) -> None:
    """The decoder says of a text called .mp3 that it does not exist, at the end of a long line."""
    text = tmp_path / ("long" * 30 + ".mp3")
    text.write_text("hi")
    with refused("data.unreadable_audio"):
        read_audio(text, 8000)
    (tmp_path / "a.wav").write_text("hi")
    with refused("data.unreadable_audio"):
        read_audio(tmp_path / "a.wav", 8000)
    with refused("data.missing_file"):
        read_audio(tmp_path / "b.wav", 8000)
