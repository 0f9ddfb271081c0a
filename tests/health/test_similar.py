"""Twins are found whatever was done to them; strangers are not taken for twins."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from health.similar import SIDE, hashes, near_pairs, rest
from health.thumbs import digest, thumb


def smooth(seed: int) -> torch.Tensor:
    """A picture (1, 64, 64) without fine detail."""
    random = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(random, size=(64, 64), mode="bicubic")[0].clamp(0, 255)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gain=st.floats(0.5, 1.0), noise=st.floats(0, 2.0))
def test_twins_in_two_splits_are_found(seed: int, gain: float, noise: float) -> None:
    own = smooth(seed)
    twin = (own * gain + noise * torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 255)
    twin = torch.nn.functional.interpolate(twin[None], size=(48, 48), mode="bilinear", antialias=True)[0]
    thumbs = np.stack([thumb(own), thumb(smooth(seed + 1)), thumb(twin)])
    assert near_pairs(thumbs, [0, 1, 1]) == [(0, 2)]
    assert near_pairs(thumbs, [0, 1, 0]) == []


def test_strangers_and_flat_pictures_are_no_twins() -> None:
    thumbs = np.stack([thumb(smooth(i)) for i in range(120)] + [np.full((SIDE, SIDE), v, np.uint8) for v in (0, 255)])
    assert near_pairs(thumbs, [i % 2 for i in range(len(thumbs))]) == []


def test_blocks_do_not_change_the_answer(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    thumbs = np.stack([thumb(smooth(i % 20)) for i in range(40)])
    whole = near_pairs(thumbs, [0] * 20 + [1] * 20)
    assert whole == [(i, i + 20) for i in range(20)]
    monkeypatch.setattr("health.similar.BLOCK", 7)
    assert near_pairs(thumbs, [0] * 20 + [1] * 20) == whole


def test_rest_is_0_for_equals_and_1_for_strangers() -> None:
    one = thumb(smooth(1))[None]
    checks = np.zeros((1, SIDE, SIDE), np.uint8)
    checks[:, ::2] = 255
    assert rest(one, one)[0] < 1e-3
    assert rest(one, checks)[0] > 0.95
    assert hashes(one).shape == (1, 63)


def test_a_sound_is_known_by_its_spectrogram() -> None:
    time = torch.arange(6000) / 8000
    song = torch.sin(2 * torch.pi * (300 + 400 * time) * time)[None] * torch.hann_window(6000)
    other = torch.sin(2 * torch.pi * (900 - 400 * time) * time)[None] * torch.hann_window(6000)
    padded = torch.nn.functional.pad(0.4 * song, (0, 2000))
    thumbs = np.stack([thumb(s) for s in (song, other, padded)])
    assert near_pairs(thumbs, [0, 1, 1]) == [(0, 2)]


def test_digests_know_shape_and_content() -> None:
    zeros = torch.zeros(1, 4, 6, dtype=torch.uint8)
    assert digest(zeros) == digest(zeros.clone())
    assert digest(zeros) != digest(zeros.reshape(1, 6, 4))
    assert digest(zeros) != digest(zeros + 1)
