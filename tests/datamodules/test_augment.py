"""Images, boxes and masks move together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from datamodules.augment import Augment, SoundAugment
from datamodules.placing import place
from structures import IGNORE, InputError

SHARE = st.floats(0, 0.5)


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image = torch.zeros(3, 64, 80, dtype=torch.uint8)
    image[:, 20:44, 30:60] = 255
    return image, (image[0] > 0).to(torch.uint8), torch.tensor([[30.0, 20, 60, 44]])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 30), SHARE, st.floats(0, 0.2), st.sampled_from([0, 0, 48]))
def test_masks_and_boxes_stay_on_the_object(seed: int, rotate: float, scale: float, shift: float, crop: int) -> None:
    image, mask, boxes = scene()
    change = Augment(0.5, 0.5, rotate, scale, shift, 0.2, crop)
    moved, moved_mask = change(image, mask, Generator().manual_seed(seed))
    assert moved.shape[1:] == moved_mask.shape
    valid = moved_mask != IGNORE
    if (moved_mask[valid] == 1).any() and (moved_mask[valid] == 0).any() and not change.colour:
        assert ((moved[0] > 127) == (moved_mask == 1))[valid].float().mean() > 0.95
    _, target = change(image, {"boxes": boxes, "labels": torch.tensor([0])}, Generator().manual_seed(seed))
    height, width = moved.shape[1:]
    if len(target["boxes"]):
        x1, y1, x2, y2 = target["boxes"][0].tolist()
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        outside = moved_mask.clone()
        outside[max(0, int(y1) - 1) : int(y2) + 2, max(0, int(x1) - 1) : int(x2) + 2] = 0
        assert (outside == 1).sum() == 0
    else:
        assert (moved_mask == 1).sum() <= 200
    assert len(target["boxes"]) == len(target["labels"])


def test_the_same_generator_the_same_change() -> None:
    image, mask, _ = scene()
    change = Augment(0.5, 0.5, 20, 0.3, 0.2, 0.2)
    first, second, third = (change(image, mask, Generator().manual_seed(seed))[0] for seed in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(Augment()(image, 3, Generator())[0], image)


def test_sound() -> None:
    wave = torch.sin(torch.arange(1000) / 5).unsqueeze(0)
    change = SoundAugment(0.2, 6, 0.1)
    first, second = (change(wave, 1, Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == wave.shape
    assert torch.isfinite(first).all()
    assert torch.equal(SoundAugment()(wave, 1, Generator())[0], wave)


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"rotate": -1.0}, {"crop": -1}, {"scale": -0.1}])
def test_refusals(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"data\.augment"):
        Augment(**wrong)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["crop", "inside", "stretch", "none"]))
def test_boxes_come_back(height: int, width: int, resize: str) -> None:
    placement = place(height, width, (64, 64), resize)
    box = torch.tensor([[width * 0.3, height * 0.3, width * 0.7, height * 0.7]])
    torch.testing.assert_close(placement.boxes_back(placement.boxes(box)), box, atol=1e-2, rtol=1e-3)
