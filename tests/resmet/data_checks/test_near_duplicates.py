"""Near-duplicates are found after common changes; different items are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.decoding.audio import fit_length, read_audio
from resmet.data_checks.checks.near_duplicates import AUDIO, IMAGES, MIRRORED, near_pairs, perceptual_hashes, residuals
from resmet.data_checks.run.inspect_items import SIDE, signal_hash, thumbnails


def thumbnails_of(*signals: torch.Tensor) -> np.ndarray:
    return np.concatenate([thumbnails(signal[None]) for signal in signals])


def smooth(seed: int) -> torch.Tensor:
    """An image (1, 64, 64) without fine detail."""
    random = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(random, size=(64, 64), mode="bicubic")[0].clamp(0, 255)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gain=st.floats(0.5, 1.0), noise=st.floats(0, 2.0))
def test_near_duplicates_in_two_splits_are_found(seed: int, gain: float, noise: float) -> None:
    own = smooth(seed)
    changed = (own * gain + noise * torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 255)
    changed = torch.nn.functional.interpolate(changed[None], size=(48, 48), mode="bilinear", antialias=True)[0]
    made = thumbnails_of(own, smooth(seed + 1), changed)
    assert near_pairs(made, [0, 1, 1]) == [(0, 2)]
    assert near_pairs(made, [0, 1, 0]) == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 2.0))
def test_mirrored_images_are_found_by_their_criterion(seed: int, noise: float) -> None:
    own = smooth(seed)
    changed = own.flip(2) + noise * torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))
    made = thumbnails_of(own, smooth(seed + 1), changed.clamp(0, 255))
    assert near_pairs(made, [0, 1, 1]) == []
    assert near_pairs(made, [0, 1, 1], MIRRORED) == [(0, 2)]
    assert near_pairs(made[[2, 1, 0]], [1, 1, 0], MIRRORED) == [(0, 2)]


def test_different_and_constant_images_are_not_near_duplicates() -> None:
    made = thumbnails_of(*map(smooth, range(120)), torch.zeros(1, SIDE, SIDE), torch.full((1, SIDE, SIDE), 255.0))
    for measure in (IMAGES, MIRRORED):
        assert near_pairs(made, [i % 2 for i in range(len(made))], measure) == []


def test_block_size_does_not_change_the_result(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = thumbnails_of(*(smooth(i % 20) for i in range(40)))
    whole = near_pairs(made, [0] * 20 + [1] * 20)
    assert whole == [(i, i + 20) for i in range(20)]
    monkeypatch.setattr("resmet.data_checks.checks.near_duplicates.BLOCK", 7)
    assert near_pairs(made, [0] * 20 + [1] * 20) == whole


def test_residual_is_0_for_equal_and_large_for_different_images() -> None:
    one = thumbnails_of(smooth(1))
    checks = np.zeros((1, SIDE, SIDE), np.uint8)
    checks[:, ::2] = 255
    assert residuals(one, one)[0] < 1e-3
    assert residuals(one, checks)[0] > 0.95
    assert perceptual_hashes(one).shape == (1, 63)


def song(seed: int) -> torch.Tensor:
    """A waveform (1, 8000) of six tones that come one after another, silence at its end."""
    tones = 300 + 3000 * torch.rand(6, generator=torch.Generator().manual_seed(seed))
    time = torch.arange(1000) / 8000
    parts = [torch.sin(2 * torch.pi * tone * time) * torch.hann_window(1000) for tone in tones]
    return torch.nn.functional.pad(torch.cat(parts), (0, 2000))[None]


def later(sound: torch.Tensor, samples: int) -> torch.Tensor:
    return torch.nn.functional.pad(sound, (samples, 0))[:, : sound.shape[1]]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: 0.4 * s,
        lambda s: later(s, 160),
        lambda s: torch.cat([s[:, 40:], torch.zeros(1, 40)], 1),
        lambda s: (s * 127).round() / 127,
        lambda s: s + 0.003 * torch.randn(s.shape, generator=torch.Generator().manual_seed(1)),
    ],
    ids=["quieter", "later", "cut", "8 bits", "noise"],
)
def test_changed_audio_is_a_near_duplicate(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    made = thumbnails_of(song(0), song(1), change(song(0)))
    assert near_pairs(made, [0, 1, 1], AUDIO) == [(0, 2)]


def test_different_noise_is_not_a_near_duplicate() -> None:
    noises = [0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert near_pairs(thumbnails_of(*noises), [i % 2 for i in range(20)], AUDIO) == []


@pytest.mark.slow
def test_recordings_of_one_digit_are_not_near_duplicates(real: Path) -> None:
    paths = sorted((real / "fsdd" / "recordings").glob("[0-3]_*.wav"))
    made = thumbnails_of(*(fit_length(read_audio(path, 8000), 5700) for path in paths))
    assert near_pairs(made, range(len(paths)), AUDIO) == []


def test_digest_depends_on_shape_and_values() -> None:
    zeros = torch.zeros(1, 4, 6, dtype=torch.uint8)
    assert signal_hash(zeros) == signal_hash(zeros.clone())
    assert signal_hash(zeros) != signal_hash(zeros.reshape(1, 6, 4))
    assert signal_hash(zeros) != signal_hash(zeros + 1)
