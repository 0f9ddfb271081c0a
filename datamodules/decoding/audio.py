"""Audio files -> waveforms."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from foundation.structures import InputError, first_line

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".opus"}
MAX_SAMPLES = 1 << 29
"""Samples of a clip over all channels: 3 hours at 48 kHz, 2 GB once decoded."""

SILENCE = 1e-4
"""Amplitude, of full scale (-80 dB), below which a clip counts as silent."""


def audio_length(path: Path) -> tuple[int, int]:
    """Returns number of samples and sample rate in Hz from a file's header.

    Raises:
        InputError: If it can't be read, or states an impossible length.
    """
    try:
        info = soundfile.info(str(path))
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        raise unreadable(path, error) from error
    if info.samplerate < 1 or info.frames < 0 or info.frames * max(1, info.channels) > MAX_SAMPLES:
        header = f"{info.frames} samples, {info.channels} channels, {info.samplerate} Hz"
        raise InputError("data.unreadable_audio", f"{path} states {header}: repair it, or cut it into pieces")
    return info.frames, info.samplerate


def read_audio(path: Path, rate: int) -> Tensor:
    """Returns a clip as float (1, T) in -1..1, the mean of its channels, resampled to `rate` Hz.

    Raises:
        InputError: If the file is missing, not audio, empty, truncated or silent.
    """
    stated, own_rate = audio_length(path)
    if stated * rate / own_rate > MAX_SAMPLES:
        text = f"{path} is too long at {rate} Hz, its header states {own_rate}: repair it"
        raise InputError("data.unreadable_audio", text)
    try:
        whole = not is_truncated(path)
        samples = soundfile.read(str(path), dtype="float32", always_2d=True)[0] if whole else np.zeros((0, 1))
    except (OSError, soundfile.SoundFileError) as error:
        raise unreadable(path, error) from error
    if not whole or len(samples) < stated:
        text = f"{path} holds fewer samples than its header states: repair or remove it"
        raise InputError("data.truncated_audio", text)
    if not len(samples):
        raise InputError("data.empty_audio", f"{path} is empty: it holds no samples: remove it")
    if not np.isfinite(samples).all():
        raise InputError("data.non_finite", f"{path} holds NaN or Inf: repair or remove it")
    wave = samples.mean(axis=1)
    if np.abs(wave).max() < SILENCE:
        raise InputError("data.silent_audio", f"{path} is silent from start to end: remove it")
    if own_rate != rate:
        wave = soxr.resample(wave, own_rate, rate)
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)).unsqueeze(0)


def is_truncated(path: Path) -> bool:
    """Whether a RIFF file's data chunk reaches beyond the file's end; libsndfile reads such a file without an error."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return False
        end = path.stat().st_size
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                # A writer of a stream that never learned the length leaves 0 or all ones.
                return length not in (0, 0xFFFFFFFF) and file.tell() + length > end
            file.seek(length + length % 2, 1)
    return False


def unreadable(path: Path, error: Exception) -> InputError:
    if not path.is_file():
        return InputError("data.missing_file", f"{path}: there is no such file: add it or take it out of the data")
    reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else ""  # without the path
    cause = reason.strip().rstrip(".") or first_line(error)
    if "does not exist" in cause:  # its MP3 decoder's message for anything that it can't read
        cause = "unknown format"
    return InputError("data.unreadable_audio", f"{path} can't be read as audio ({cause}): repair or remove it")


def fit_length(wave: Tensor, length: int) -> Tensor:
    """Center-crops (C, T) to (C, length), or pads it with silence at the end."""
    spare = wave.shape[1] - length
    if spare >= 0:
        return wave[:, spare // 2 : spare // 2 + length].contiguous()
    return torch.nn.functional.pad(wave, (0, -spare))
