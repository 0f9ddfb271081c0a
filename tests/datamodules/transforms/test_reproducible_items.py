"""An augmented item is a function of (seed, epoch, index): it does not depend on its batch, on workers or on threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nested import equal
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from datamodules.base.datamodule import DataModule
from datamodules.formats.image_folder import ImageFolder
from datamodules.joint import JointDataModule
from datamodules.loading.collate import PARAMS, collate
from datamodules.synthetic import Digits, Scenes, Tones
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.structures import IGNORE
from foundation.targets.kinds import TARGETS

ROOT = Path(__file__).parents[3]
ALL = Augment(0.5, 0.5, 20.0, 0.3, 0.2, 0.3)
SOUND = AudioAugment(0.3, 6.0, 0.2, 0.3)


def made(data: DataModule, split: str = "train", epoch: int = 0) -> Iterator[Any]:
    """The batches that a step gets."""
    loader = data.dataloader(split)
    loader.sampler.set_epoch(epoch)
    for batch in loader:
        yield data.on_after_batch_transfer(batch, 0)


def by_name(batches: Iterator[Any]) -> dict[str, tuple[Tensor, Any]]:
    return {name: (batch["input"][i], batch["target"][i]) for batch in batches for i, name in enumerate(batch["names"])}


KINDS: dict[str, Callable[..., DataModule]] = {
    "images": partial(Digits, channels=3, augment=ALL),
    "grayscale": partial(Digits, augment=ALL),
    "flips": partial(Digits, augment=Augment(0.5, 0.5)),
    "color": partial(Digits, channels=3, augment=Augment(color_jitter=0.4)),
    "crops": partial(Digits, augment=Augment(degrees=9.0, random_crop=17)),
    "policies": partial(
        Digits, channels=3, augment=Augment(horizontal_flip=0.5, auto_augment="trivialaugment", random_erasing=0.5)
    ),
    "masks": partial(Scenes, target="mask", count=40, size=96, augment=ALL),
    "boxes": partial(Scenes, target="boxes", count=40, size=96, augment=ALL),
    "any number of labels": partial(Scenes, target="labels", count=40, size=96, augment=ALL),
    "audio": partial(Tones, count=40, augment=SOUND),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_items_do_not_depend_on_batch_size_and_workers(kind: str) -> None:
    found = []
    for batch_size, num_workers in ((32, 0), (1, 0), (7, 2)):
        data = KINDS[kind](batch_size=batch_size)
        whole = data.read()
        data.read = lambda whole=whole: {split: items[:40] for split, items in whole.items()}  # type: ignore[method-assign]
        data.num_workers = num_workers
        data.setup("fit")
        found.append(by_name(made(data, epoch=3)))
        data.teardown("")
    assert len(found[0]) == 40
    for other in found[1:]:
        assert all(equal(x, other[name][0]) and equal(y, other[name][1]) for name, (x, y) in found[0].items())
    raw = {
        name: data.datasets["train"].sample(i)[0]
        for i, name in enumerate(data.datasets["train"].name(i) for i in range(40))
    }
    assert sum(not torch.equal(raw[name], x) for name, (x, _) in found[0].items()) > 25


DIGEST = """
import hashlib, sys, torch
from datamodules.transforms.augment import Augment, AudioAugment
from datamodules.synthetic import Scenes, Tones
torch.set_num_threads(int(sys.argv[1]))
digest = hashlib.sha256()
for data in (
    Scenes(target="mask", count=24, size=128, batch_size=24, augment=Augment(0.5, 0.5, 20.0, 0.3, 0.2, 0.3)),
    Tones(count=24, augment=AudioAugment(0.3, 6.0, 0.2, 0.3)),
):
    data.setup("fit")
    for batch in data.dataloader("train"):
        batch = data.on_after_batch_transfer(batch, 0)
        digest.update(batch["input"].numpy().tobytes() + batch["target"].numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_items_do_not_depend_on_the_number_of_threads() -> None:
    """In separate processes: one with several threads can't be forked, which other tests do."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads block each other on a busy machine
    digests = [
        subprocess.run(
            [sys.executable, "-c", DIGEST, str(threads)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for threads in (1, 2)
    ]
    assert digests[0] == digests[1] != ""


def test_an_item_alone_equals_the_item_in_a_batch() -> None:
    data = Scenes(target="mask", count=10, size=64, augment=ALL)
    data.setup("fit")
    items, kind = data.datasets["train"], TARGETS["mask"]
    batch = data.on_after_batch_transfer(collate(items.__getitems__([(1, i) for i in range(10)]), kind), 0)
    for i in range(10):
        image, mask = ALL(*items.sample(i), Generator().manual_seed(int(items.seeds(1)[i, 0])), kind)
        assert torch.equal(image, batch["input"][i])
        assert torch.equal(mask, batch["target"][i])


def test_padding_has_no_effect() -> None:
    def batch(*shapes: tuple[int, int]) -> Any:
        found = []
        for seed, (height, width) in enumerate(shapes):
            image = torch.full((3, height, width), 100 + seed, dtype=torch.uint8)
            mask = torch.randint(0, 3, (height, width), generator=Generator().manual_seed(seed), dtype=torch.uint8)
            image, mask, row = ALL.make_params(image, mask, Generator().manual_seed(seed), TARGETS["mask"])
            found.append((image, mask, "", 0, row))
        joined = collate(found, TARGETS["mask"])
        ALL.transform(joined, joined.pop(PARAMS), TARGETS["mask"])
        return joined

    several = batch((30, 40), (50, 20), (50, 20), (9, 9))
    assert torch.equal(batch((30, 40))["input"][0], several["input"][0, :, :30, :40])
    assert torch.equal(batch((30, 40))["target"][0], several["target"][0, :30, :40])
    assert (several["input"][0, :, 30:] == 0).all()
    assert (several["target"][0, :, 40:] == IGNORE).all()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(24, 90),
    st.integers(24, 90),
    st.floats(0, 40),
    st.floats(0, 0.4),
    st.floats(0, 0.3),
)
def test_images_are_warped_as_by_torchvision(
    seed: int, height: int, width: int, rotate: float, scale: float, shift: float
) -> None:
    """Inside, where no fill value is mixed in: flips, then one affine map about the center."""
    noise = torch.rand(1, 3, 8, 8, generator=Generator().manual_seed(seed)) * 255
    image = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)[0]
    mask = (image[0] // 64).contiguous()
    change = Augment(0.5, 0.5, rotate, scale, shift)
    moved, moved_mask = change(image, mask, Generator().manual_seed(seed), TARGETS["mask"])
    shares = torch.rand(10, generator=Generator().manual_seed(seed), dtype=torch.float64).tolist()
    for flip, share in ((functional.horizontal_flip, shares[2]), (functional.vertical_flip, shares[3])):
        image, mask = (flip(image), flip(mask)) if share < 0.5 else (image, mask)

    def between(share: float, low: float, high: float) -> float:
        return low + (high - low) * share

    angle = between(shares[4], -rotate, rotate)
    by = [round(between(share, -shift, shift) * side) for share, side in zip(shares[5:7], (width, height), strict=True)]
    size = between(shares[7], 1 - scale, 1 + scale)

    def theirs(part: Tensor, mode: InterpolationMode, fill: float) -> Tensor:
        return functional.affine(part, angle, by, size, [0.0, 0.0], interpolation=mode, fill=[fill])

    inside = theirs(torch.ones(1, height, width), InterpolationMode.BILINEAR, 0.0)[0] == 1
    expected = theirs(image, InterpolationMode.BILINEAR, 0.0)
    difference = (moved.float() - expected.float()).abs()[:, inside]
    if change.is_affine and inside.any():
        assert difference.max() <= 1
        assert difference.mean() < 0.05
    expected_mask = theirs(mask[None], InterpolationMode.NEAREST, float(IGNORE))[0]
    assert (moved_mask != expected_mask).float().mean() < 0.01  # ties between two pixels may be rounded either way


def test_color_jitter_is_close_to_torchvisions() -> None:
    image = torch.randint(40, 200, (3, 50, 60), generator=Generator().manual_seed(0), dtype=torch.uint8)
    for seed in range(10):
        shares = torch.rand(10, generator=Generator().manual_seed(seed), dtype=torch.float64).tolist()
        bright, contrast = (0.8 + 0.4 * share for share in shares[8:])
        expected = functional.adjust_contrast(functional.adjust_brightness(image, bright), contrast)
        changed = Augment(color_jitter=0.2)(image, 0, Generator().manual_seed(seed), TARGETS["label"])[0]
        assert (changed.float() - expected.float()).abs().mean() < 1.5


def test_gaps_are_filled_with_the_mean_of_the_image() -> None:
    image = torch.cat([torch.full((1, 40, 40), value, dtype=torch.uint8) for value in (10, 100, 250)])
    changed = Augment(degrees=45.0, scale=0.5, translate=0.5)(image, 0, Generator().manual_seed(1), TARGETS["label"])[0]
    assert torch.equal(changed, image)


def test_cached_and_evaluated_items_are_not_augmented() -> None:
    data = Scenes(target="mask", count=20, size=64, augment=ALL)
    data.setup("fit")
    before = [tuple(part.clone() for part in data.datasets["train"].sample(i)) for i in range(20)]
    for epoch in range(2):
        list(made(data, epoch=epoch))
    assert all(equal(x, data.datasets["train"].sample(i)[0]) for i, (x, _) in enumerate(before))
    assert all(equal(y, data.datasets["train"].sample(i)[1]) for i, (_, y) in enumerate(before))
    for split in ("val", "test"):
        own = data.datasets[split]
        found = by_name(made(data, split))
        assert all(torch.equal(found[own.name(i)][0], own.sample(i)[0]) for i in range(len(own)))


@pytest.mark.parametrize("joint", [False, True])
def test_evaluation_of_training_items_is_without_augmentation(joint: bool) -> None:
    """`evaluate.py split=train` passes the loader alone to a trainer, so no transform may be pending."""
    part: DataModule = Scenes(target="boxes", count=12, size=64, augment=ALL)
    data = JointDataModule({"part": part}) if joint else part
    data.setup("fit")
    data.disable_augmentation()
    for batch in part.dataloader("train"):
        assert PARAMS not in batch
        for i, name in enumerate(batch["names"]):
            signal, target = part.datasets["train"].sample(int(name.split("/")[1]))
            assert torch.equal(batch["input"][i], signal)
            assert equal(batch["target"][i], target)


def test_no_parameters_are_drawn_without_augmentation() -> None:
    data = Digits(augment=Augment(random_crop=20))
    data.setup("fit")
    data.run_state.disable_augmentation_for(1)
    assert next(iter(data.dataloader("train"))).keys() == {"input", "target", "sizes", "names", "seeds"}
    data.run_state.disable_augmentation_for(0)
    batch = next(iter(data.dataloader("train")))
    assert PARAMS not in batch
    assert batch["input"].shape[2:] == (20, 20)


def test_every_part_of_joint_data_has_its_own_augmentation() -> None:
    parts = {
        "boxes": Scenes(target="boxes", count=12, size=64, augment=ALL, batch_size=4),
        "masks": Scenes(target="mask", count=12, size=64, batch_size=4),
    }
    data = JointDataModule(parts)
    data.setup("fit")
    batch, _, _ = next(iter(data.dataloader("train")))
    before = {name: part["input"].clone() for name, part in batch.items()}
    cpu = torch.device("cpu")
    after = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, cpu, 0), 0)
    assert not torch.equal(after["boxes"]["input"], before["boxes"])
    assert torch.equal(after["masks"]["input"], before["masks"])
    assert data.on_after_batch_transfer({"boxes": None, "masks": after["masks"]}, 0)["boxes"] is None


def test_files_loaded_by_workers_are_augmented(image_folder: Path) -> None:
    found = []
    for num_workers in (0, 2):
        data = ImageFolder(str(image_folder), batch_size=3, size=32, cache=False, num_workers=num_workers, augment=ALL)
        data.setup("fit")
        found.append(by_name(made(data)))
        data.teardown("")
    assert all(torch.equal(x, found[1][name][0]) for name, (x, _) in found[0].items())
