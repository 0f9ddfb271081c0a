"""House data: the same everywhere, and learnable only from what it shows."""

import pytest
import torch

from datamodules.synthetic import Digits, Scenes, Tones


def make(kind: str):
    data = {
        "digits": Digits,
        "boxes": lambda: Scenes(target="boxes", count=50),
        "mask": lambda: Scenes(target="mask", count=50),
        "tones": lambda: Tones(count=50),
    }[kind]()
    data.setup("fit")
    return data


@pytest.mark.parametrize("kind", ["digits", "boxes", "mask", "tones"])
def test_deterministic_and_apart(kind: str) -> None:
    one, other = make(kind), make(kind)
    seen: set[bytes] = set()
    for split, items in one.datasets.items():
        for i in range(len(items)):
            signal = items.sample(i)[0]
            assert torch.equal(signal, other.datasets[split].sample(i)[0])
            seen.add(signal.numpy().tobytes())
    assert len(seen) == sum(len(items) for items in one.datasets.values())


def test_boxes_are_tight_on_the_masks() -> None:
    boxes, masks = make("boxes"), make("mask")
    for i in range(20):
        image, target = boxes.datasets["train"].sample(i)
        same, mask = masks.datasets["train"].sample(i)
        assert torch.equal(image, same)
        covered = torch.zeros_like(mask)
        for x1, y1, x2, y2 in target["boxes"].round().int().tolist():
            covered[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 1
        assert (mask[covered == 0] == 0).all()
        assert set(mask.unique().tolist()) - {0} == {label + 1 for label in target["labels"].tolist()}
