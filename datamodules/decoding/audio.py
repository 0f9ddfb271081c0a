"""From a sound file to a waveform."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from foundation.structures import InputError, first_line

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".opus"}
LARGEST = 1 << 29
"""Samples of a clip, all channels together: 3 hours at 48 kHz, 2 GB once decoded."""

SILENCE = 1e-4  # of full scale (-80 dB): below it there is nothing to hear


def sound_length(path: Path) -> tuple[int, int]:
    """Samples and samples per second that a file's header states."""
    try:
        info = soundfile.info(str(path))
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        raise unreadable(path, error) from error
    if info.samplerate < 1 or info.frames < 0 or info.frames * max(1, info.channels) > LARGEST:
        raise InputError(
            f"{path} can't be read as sound (its header states {info.frames} samples, {info.channels} channels, {info.samplerate} Hz): "
            "mend it, or cut it into pieces"
        )
    return info.frames, info.samplerate


def read_sound(path: Path, rate: int) -> Tensor:
    """A clip as float (1, T) in -1..1, the mean of its channels, at `rate` samples per second.

    Raises:
        InputError: If the file is missing, no sound, empty, cut short or silent.
    """
    try:
        stated, own_rate = sound_length(path)
        if stated * rate / own_rate > LARGEST:
            raise InputError(
                f"{path} would have {stated * rate // own_rate} samples at {rate} Hz, {own_rate} Hz is stated: mend it"
            )
        if cut_short(path):
            raise InputError(
                f"{path} is cut short: its header promises more sound than the file holds: mend or remove it"
            )
        samples, _ = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from error
    if not len(samples):
        raise InputError(f"{path} is empty: it holds no sound: remove it")
    if len(samples) < stated:
        raise InputError(f"{path} is cut short: {len(samples)} of {stated} samples: mend or remove it")
    wave = samples.mean(axis=1)
    if not np.isfinite(wave).all():
        raise InputError(f"{path} holds values that are not finite: mend or remove it")
    if np.abs(wave).max() < SILENCE:
        raise InputError(f"{path} is silent from start to end: remove it")
    if own_rate != rate:
        wave = soxr.resample(wave, own_rate, rate)
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)).unsqueeze(0)


def cut_short(path: Path) -> bool:
    """Whether a RIFF file's data chunk reaches past the file's end; the library reads such a file without a word."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return False
        end = path.stat().st_size
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                # A stream's writer that never learned the length leaves 0 or all ones.
                return length not in (0, 0xFFFFFFFF) and file.tell() + length > end
            file.seek(length + length % 2, 1)
    return False


def unreadable(path: Path, error: Exception) -> InputError:
    if not path.is_file():
        return InputError(f"{path}: there is no such file: add it or take it out of the data")
    said = getattr(error, "error_string", "").strip() or first_line(error)  # the library's own words, without the path
    if "does not exist" in said:  # MP3's decoder says so of whatever it can't read
        said = "its content is no sound that is known"
    return InputError(f"{path} can't be read as sound ({said.rstrip('.')}): mend or remove it")


def fit_length(sound: Tensor, length: int) -> Tensor:
    """Pad (C, T) with silence at the end, or keep the middle, to get (C, length)."""
    spare = sound.shape[1] - length
    if spare >= 0:
        return sound[:, spare // 2 : spare // 2 + length].contiguous()
    return torch.nn.functional.pad(sound, (0, -spare))
