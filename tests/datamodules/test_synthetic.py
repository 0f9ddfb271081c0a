"""Data sets without files: the same everywhere."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from data_factories import set_up

from datamodules.base.items import ItemDataModule
from datamodules.synthetic import Digits, Scenes, Tones

DATA: dict[str, Callable[..., ItemDataModule]] = {
    "digits": Digits,
    "boxes": partial(Scenes, target="boxes", count=50),
    "mask": partial(Scenes, target="mask", count=50),
    "tones": partial(Tones, count=50),
}


@pytest.mark.parametrize("kind", DATA)
def test_items_are_reproducible_and_distinct(kind: str) -> None:
    one, other = set_up(DATA[kind]()), set_up(DATA[kind]())
    contents = []
    for split, items in one.datasets.items():
        for i in range(len(items)):
            signal = items.sample(i)[0]
            assert torch.equal(signal, other.datasets[split].sample(i)[0])
            contents.append(signal.numpy().tobytes())
    assert len(set(contents)) == len(contents)


def test_boxes_enclose_the_masks() -> None:
    boxes, masks = set_up(DATA["boxes"]()), set_up(DATA["mask"]())
    for i in range(20):
        image, target = boxes.datasets["train"].sample(i)
        same, mask = masks.datasets["train"].sample(i)
        assert torch.equal(image, same)
        covered = torch.zeros_like(mask)
        for x1, y1, x2, y2 in target["boxes"].round().int().tolist():
            covered[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 1
        assert (mask[covered == 0] == 0).all()
        assert set(mask.unique().tolist()) - {0} == {label + 1 for label in target["labels"].tolist()}
