"""Images, boxes and masks move together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Generator

from datamodules.decoding.resize import resize_geometry
from datamodules.synthetic import Scenes
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.structures import IGNORE, Spec
from foundation.targets.kinds import TARGETS

SHARE = st.floats(0, 0.5)


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image = torch.zeros(3, 64, 80, dtype=torch.uint8)
    image[:, 20:44, 30:60] = 255
    return image, (image[0] > 0).to(torch.uint8), torch.tensor([[30.0, 20, 60, 44]])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 30), SHARE, st.floats(0, 0.2), st.sampled_from([0, 0, 48]))
def test_masks_and_boxes_stay_on_the_object(seed: int, rotate: float, scale: float, shift: float, crop: int) -> None:
    image, mask, boxes = scene()
    change = Augment(0.5, 0.5, rotate, scale, shift, 0.0, crop)
    moved, moved_mask = change(image, mask, Generator().manual_seed(seed), TARGETS["mask"])
    assert moved.shape[1:] == moved_mask.shape
    valid = moved_mask != IGNORE
    if valid.any():
        assert ((moved[0] > 127) == (moved_mask == 1))[valid].float().mean() > 0.93
    _, target = change(
        image, {"boxes": boxes, "labels": torch.tensor([0])}, Generator().manual_seed(seed), TARGETS["boxes"]
    )
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


def test_equal_generators_give_equal_results() -> None:
    image, mask, _ = scene()
    change = Augment(0.5, 0.5, 20, 0.3, 0.2, 0.2)
    first, second, third = (
        change(image, mask, Generator().manual_seed(seed), TARGETS["mask"])[0] for seed in (4, 4, 5)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(Augment()(image, 3, Generator(), TARGETS["label"])[0], image)


def test_audio_augmentation_is_reproducible_and_keeps_the_shape() -> None:
    wave = torch.sin(torch.arange(1000) / 5).unsqueeze(0)
    change = AudioAugment(0.2, 6, 0.1)
    first, second = (change(wave, 1, Generator().manual_seed(3), TARGETS["label"])[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == wave.shape
    assert torch.isfinite(first).all()
    assert torch.equal(AudioAugment()(wave, 1, Generator(), TARGETS["label"])[0], wave)


IMAGES = st.tuples(st.sampled_from([1, 3]), st.integers(8, 70), st.integers(8, 70))


@settings(deadline=None, max_examples=60)
@given(
    IMAGES,
    st.integers(0, 10**6),
    st.sampled_from(["none", "randaugment", "trivialaugment"]),
    st.sampled_from([0.0, 1.0]),
)
def test_policies_keep_shape_type_and_global_generator(
    shape: tuple[int, int, int], seed: int, policy: str, erase: float
) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=Generator().manual_seed(seed))
    before = image.clone()
    change = Augment(auto_augment=policy, random_erasing=erase)
    state = torch.get_rng_state()
    moved, label = change(image, 3, Generator().manual_seed(seed), TARGETS["label"])
    assert (moved.shape, moved.dtype, label) == (image.shape, torch.uint8, 3)
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(seed + 1)  # the state of the global generator has no effect
    assert torch.equal(moved, change(image, 3, Generator().manual_seed(seed), TARGETS["label"])[0])
    torch.set_rng_state(state)


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_policies_change_images(policy: str) -> None:
    image = scene()[0]
    change = Augment(auto_augment=policy)
    results = [change(image, 0, Generator().manual_seed(seed), TARGETS["label"])[0] for seed in range(20)]
    assert len({tuple(moved.flatten().tolist()) for moved in results}) > 10


def test_erasing_blackens_one_box() -> None:
    image = torch.full((3, 40, 60), 200, dtype=torch.uint8)
    hit = 0
    for seed in range(20):
        moved = Augment(random_erasing=0.5)(image, 0, Generator().manual_seed(seed), TARGETS["label"])[0]
        black = (moved == 0).all(0)
        assert ((moved == 200).all(0) | black).all()
        if black.any():
            hit += 1
            rows, columns = black.any(1).sum(), black.any(0).sum()
            assert black.sum() == rows * columns
    assert 3 < hit < 17


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(8, 70), st.integers(8, 70), st.floats(0, 180), SHARE, SHARE, st.integers(0, 80)
)
def test_boxes_and_masks_stay_valid(
    seed: int, height: int, width: int, rotate: float, scale: float, shift: float, crop: int
) -> None:
    """Boxes inside the image, with an area; masks of the image's size without new values; no NaN."""
    generator = Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    corners = torch.rand(5, 2, 2, generator=generator).sort(1).values * torch.tensor([width, height])
    boxes = corners.reshape(5, 4)
    change = Augment(0.5, 0.5, rotate, scale, shift, 0.5, crop)
    moved, target = change(
        image, {"boxes": boxes, "labels": torch.arange(5)}, Generator().manual_seed(seed), TARGETS["boxes"]
    )
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    assert torch.isfinite(target["boxes"]).all()
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= moved.shape[2]).all()
    assert (y2 <= moved.shape[1]).all()
    assert (x2 - x1 >= 2).all()
    assert (y2 - y1 >= 2).all()
    assert len(target["labels"]) == len(target["boxes"])
    mask = torch.randint(0, 4, (height, width), dtype=torch.uint8, generator=generator)
    again, moved_mask = change(image, mask, Generator().manual_seed(seed), TARGETS["mask"])
    assert torch.equal(again, moved)
    assert moved_mask.shape == moved.shape[1:]
    assert set(moved_mask.unique().tolist()) <= {*mask.unique().tolist(), IGNORE}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 500), st.floats(0, 1), st.floats(0, 30), st.floats(0, 2), st.floats(0, 1))
def test_audio_stays_finite_and_of_its_length(
    seed: int, length: int, shift: float, gain: float, noise: float, mask: float
) -> None:
    wave = torch.randn(1, length, generator=Generator().manual_seed(seed)).clamp(-1, 1)
    before = wave.clone()
    moved = AudioAugment(shift, gain, noise, mask)(wave, 1, Generator().manual_seed(seed), TARGETS["label"])[0]
    assert moved.shape == wave.shape
    assert torch.isfinite(moved).all()
    assert torch.equal(wave, before)


def test_a_time_mask_is_contiguous_and_limited() -> None:
    wave = torch.ones(1, 1000)
    lengths = []
    for seed in range(50):
        quiet = (
            (AudioAugment(time_mask=0.3)(wave, 1, Generator().manual_seed(seed), TARGETS["label"])[0][0] == 0)
            .nonzero()
            .flatten()
        )
        lengths.append(len(quiet))
        assert not len(quiet) or quiet[-1] - quiet[0] + 1 == len(quiet)
    assert max(lengths) <= 300
    assert max(lengths) > 200


@pytest.mark.parametrize(
    ("target", "channels", "good"),
    [("label", 3, True), ("labels", 1, True), ("boxes", 3, False), ("mask", 1, False), ("label", 4, False)],
)
@pytest.mark.parametrize("change", [Augment(auto_augment="trivialaugment"), Augment(random_erasing=0.5)])
def test_policies_take_images_with_labels(change: Augment, target: str, channels: int, good: bool) -> None:
    spec = Spec(2, channels, ("a", "b"), target=target)
    Augment(horizontal_flip=0.5, degrees=3).check_spec(spec)
    if good:
        change.check_spec(spec)
    else:
        with refused("data.augment_mismatch"):
            change.check_spec(spec)


def test_unsuited_data_is_refused_before_training() -> None:
    data = Scenes(target="boxes", count=10, size=48, augment=Augment(auto_augment="randaugment"))
    with refused("data.augment_mismatch"):
        data.setup("fit")


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizontal_flip": 1.5},
        {"degrees": -1.0},
        {"random_crop": -1},
        {"scale": -0.1},
        {"random_erasing": 2.0},
        {"auto_augment": "autoaugment"},
    ],
)
def test_augmentation_options_out_of_range_are_refused(wrong: dict) -> None:
    with refused("config.out_of_range|config.unknown_value"):
        Augment(**wrong)


@pytest.mark.parametrize("wrong", [{"shift": 2.0}, {"time_mask": -0.1}, {"gain": -1.0}, {"noise": -1.0}])
def test_audio_augmentation_options_out_of_range_are_refused(wrong: dict) -> None:
    with refused("config.out_of_range"):
        AudioAugment(**wrong)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["crop", "inside", "stretch", "none"]))
def test_boxes_return_to_the_original_pixels(height: int, width: int, resize: str) -> None:
    placement = resize_geometry(height, width, (64, 64), resize)
    box = torch.tensor([[width * 0.3, height * 0.3, width * 0.7, height * 0.7]])
    torch.testing.assert_close(placement.boxes_back(placement.boxes(box)), box, atol=1e-2, rtol=1e-3)


def test_color_jitter_of_any_number_of_channels() -> None:
    """Every channel is a separate grayscale image; all get the same factors."""
    image = torch.arange(5 * 8 * 8, dtype=torch.uint8).reshape(5, 8, 8)
    changed, _ = Augment(color_jitter=0.3)(image, 0, Generator().manual_seed(3), TARGETS["label"])
    assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
    alone, _ = Augment(color_jitter=0.3)(image[2:3], 0, Generator().manual_seed(3), TARGETS["label"])
    assert torch.equal(changed[2], alone[0])
    assert not torch.equal(changed, image)
