"""The contract of every kind of target."""

from typing import Any

import pytest
import torch

from foundation.structures import IGNORE
from foundation.targets.kinds import TARGETS

CLASSES = 3
MASKS = [torch.randint(0, CLASSES, shape, generator=torch.Generator().manual_seed(0)) for shape in ((4, 6), (5, 3))]
BOXES = [
    {"boxes": torch.tensor([[1.0, 1, 5, 3], [0, 0, 2, 4]]), "labels": torch.tensor([2, 0])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]
ITEMS: dict[str, list[Any]] = {
    "label": [2, 0],
    "labels": [torch.tensor([1, 0, 1]), torch.tensor([0, 0, 0])],
    "boxes": BOXES,
    "mask": MASKS,
}
SIZES = [(4, 6), (5, 3)]
NAMES = ("background", "cat", "dog")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    return torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.fixture(params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_items_survive_storage_and_batches(name: str) -> None:
    kind, items = TARGETS[name], ITEMS[name]
    batched = kind.collate(items, (5, 6))
    again = kind.split(kind.to(kind.unpack(kind.pack(batched)), torch.device("cpu")), SIZES)
    for item, other in zip(items, again, strict=True):
        assert same(item, other)
        assert same(item, kind.decode(kind.encode(item)))


def test_only_targets_of_the_kind_are_valid(name: str) -> None:
    for other, items in ITEMS.items():
        valid = [TARGETS[name].is_valid(item, CLASSES, size) for item, size in zip(items, SIZES, strict=True)]
        assert valid == [other == name] * 2


def test_counts_are_of_items_objects_or_pixels() -> None:
    counts = {name: TARGETS[name].counts(items[0], CLASSES).tolist() for name, items in ITEMS.items()}
    assert counts["label"] == [0, 0, 1]
    assert counts["labels"] == counts["boxes"] == [1, 0, 1]
    assert sum(counts["mask"]) == 24


def test_a_target_is_described_like_a_prediction(name: str) -> None:
    kind, items = TARGETS[name], ITEMS[name]
    assert "dog" in kind.describe(kind.as_prediction(items[0]), NAMES)


def test_class_probabilities_of_single_and_several_labels() -> None:
    """Both are float (N, C) after mixup; the kind distinguishes them."""
    single, several = TARGETS["label"], TARGETS["labels"]
    assert torch.equal(single.one_hot(torch.tensor([2, 0]), CLASSES), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    assert torch.equal(several.one_hot(torch.tensor([[1, 0, 1]]), CLASSES), torch.tensor([[1.0, 0, 1]]))
    for kind in (single, several):
        mixed = kind.as_prediction(torch.tensor([0.25, 0.0, 0.75]))
        assert mixed["labels"].tolist() == [0, 2]
        assert kind.describe(mixed, NAMES) == "background 0.25, dog 0.75"


def test_masks_are_padded_with_ignore_and_boxes_move_with_a_window() -> None:
    assert (TARGETS["mask"].collate(MASKS, (5, 6))[1, :, 3:] == IGNORE).all()
    cropped = TARGETS["boxes"].crop(BOXES[0], top=1, left=1, height=3, width=3)
    assert cropped["boxes"].tolist() == [[0, 0, 4, 2], [-1, -1, 1, 3]]
    mirrored = TARGETS["boxes"].affine(BOXES[0], (-1, 0, 0, 0, 1, 0), height=4, width=6)
    assert mirrored["boxes"].tolist() == [[1, 1, 5, 3], [4, 0, 6, 4]]
