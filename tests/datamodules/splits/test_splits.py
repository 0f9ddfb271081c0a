"""How splits are made where the data has none."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from datamodules.splits.splits import Item, Splits

LABELS = st.lists(st.integers(0, 3), min_size=8, max_size=60)


def items(labels: list[int], groups: list[str] | None = None) -> dict[str, list[Item]]:
    named = groups or [""] * len(labels)
    return {"train": [Item(f"/root/{g}_{i}", k, g, k) for i, (k, g) in enumerate(zip(labels, named, strict=True))]}


@settings(deadline=None)
@given(LABELS, st.integers(0, 5))
def test_every_item_in_one_split(labels: list[int], seed: int) -> None:
    found = Splits(0.2, 0.2).complete(items(labels), seed)
    names = [item.name for members in found.values() for item in members]
    assert sorted(names) == sorted(item.name for item in items(labels)["train"])
    assert found == Splits(0.2, 0.2).complete(items(labels), seed)
    assert {item.stratum for item in found["train"]} == set(labels)


@settings(deadline=None)
@given(LABELS, st.integers(2, 5))
def test_every_item_is_in_one_fold(labels: list[int], folds: int) -> None:
    parts = [Splits(test=0, folds=folds, fold=i).complete(items(labels), 3)["val"] for i in range(folds)]
    assert sorted(item.name for part in parts for item in part) == sorted(item.name for item in items(labels)["train"])
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in set(labels):
        shares = [Counter(item.stratum for item in part)[label] for part in parts]
        assert max(shares) - min(shares) <= 1


@settings(deadline=None, max_examples=30)
@given(LABELS, st.integers(0, 5), st.booleans())
def test_groups_are_not_divided(labels: list[int], seed: int, fold: bool) -> None:
    groups = ["abcdefg"[i % 7] for i in range(len(labels))]
    splits = Splits(0.2, 0.2, folds=3 if fold else 0, fold=1 if fold else 0)
    found = splits.complete(items(labels, groups), seed)
    owners = [{item.group for item in members} for members in found.values()]
    assert not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]
    assert all(owners)


def test_published_splits_stay() -> None:
    given = {"train": items([0, 1] * 10)["train"], "val": [Item("v", 0)], "test": [Item("t", 1)]}
    assert Splits(0.5, 0.5).complete(given, 0) == given
    folded = Splits(folds=3).complete(given, 0)
    assert folded["test"] == given["test"]
    assert len(folded["train"]) + len(folded["val"]) == 21


def test_a_group_from_the_path() -> None:
    found = {"train": [Item(f"/root/patient{i // 4}/scan{i}.png", 0) for i in range(40)]}
    made = Splits(0.2, 0.0, group=r"patient(\d+)").complete(found, 0, "/root")
    assert {item.group for item in made["train"]}.isdisjoint({item.group for item in made["val"]})
    with refused("data.missing_group"):
        Splits(group="person").complete(found, 0, "/root")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"folds": 1}, "config.out_of_range"),
        ({"folds": 5, "fold": 5}, "config.out_of_range"),
        ({"fold": 1}, "config.out_of_range"),
        ({"group": "("}, "config.invalid_regex"),
        ({"val": 1.0}, "config.out_of_range"),
    ],
)
def test_invalid_split_options_are_refused(arguments: dict, code: str) -> None:
    with refused(code):
        Splits(**arguments)


def test_too_few_items_or_groups_are_refused() -> None:
    with refused("data.too_few_items"):
        Splits(test=0, folds=4).complete(items([0, 1, 0]), 0)
    with refused("data.too_few_groups"):
        Splits(0.2, 0).complete(items([0, 1, 0], ["a"] * 3), 0)


def test_groups_of_uneven_size_give_nearly_the_requested_fraction() -> None:
    groups = ["large"] * 30 + [f"g{i}" for i in range(30)]
    for seed in range(5):
        found = Splits(0.1, 0.1).complete(items([0] * 60, groups), seed)
        assert 4 <= len(found["test"]) <= 8
        assert 4 <= len(found["val"]) <= 8
    with refused("data.too_few_groups"):
        Splits(test=0, folds=4).complete(items([0] * 9, ["a", "b", "c"] * 3), 0)


SEVERAL = st.lists(st.sets(st.sampled_from("abcdef")), min_size=12, max_size=90)


def several(labels: list[set[str]], groups: list[str] | None = None) -> dict[str, list[Item]]:
    named = groups or [""] * len(labels)
    pairs = enumerate(zip(labels, named, strict=True))
    return {"train": [Item(f"/root/{g}_{i}", 0, g, tuple(sorted(own))) for i, (own, g) in pairs]}


def held(members: list[Item]) -> Counter[str]:
    return Counter(label for item in members for label in item.stratum)  # type: ignore[attr-defined]


@settings(deadline=None)
@given(SEVERAL, st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.3]))
def test_each_of_several_labels_is_stratified(labels: list[set[str]], seed: int, share: float) -> None:
    """The requested size, no item lost, no label absent from training, and every frequent label in every split."""
    given = several(labels)
    found = Splits(share, share).complete(given, seed)
    assert found == Splits(share, share).complete(given, seed)
    assert sorted(item.name for members in found.values() for item in members) == sorted(
        item.name for item in given["train"]
    )
    everything = held(given["train"])
    if not [label for label, number in everything.items() if number == 1]:
        assert len(found["test"]) == max(1, round(share * len(labels)))
        assert set(held(found["train"])) == set(everything)
    enough = {label for label, number in everything.items() if share * number >= 2}
    assert enough <= set(held(found["test"]))
    assert enough <= set(held(found["val"])) | {label for label in enough if share * everything[label] < 4}


@pytest.mark.slow
@settings(deadline=None)
@given(SEVERAL, st.integers(2, 5))
def test_every_item_with_several_labels_is_in_one_fold(labels: list[set[str]], folds: int) -> None:
    given = several(labels)
    parts = [Splits(test=0, folds=folds, fold=i).complete(given, 3)["val"] for i in range(folds)]
    assert sorted(item.name for part in parts for item in part) == sorted(item.name for item in given["train"])
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    enough = {label for label, number in held(given["train"]).items() if number >= 4 * folds}
    assert all(enough <= set(held(part)) for part in parts)


@settings(deadline=None, max_examples=50)
@given(SEVERAL, st.lists(st.sampled_from("pqrstuvwxyz"), min_size=90, max_size=90), st.integers(0, 3), st.booleans())
def test_groups_of_several_labels_stay_whole(labels: list[set[str]], owners: list[str], seed: int, fold: bool) -> None:
    owners = [*"pqr", *owners][: len(labels)]
    given = several(labels, owners)
    splits = Splits(0.2, 0.0, folds=3, fold=seed % 3) if fold else Splits(0.2, 0.2)
    found = splits.complete(given, seed)
    belongs = [{item.group for item in members} for members in found.values()]
    assert sum(map(len, belongs)) == len(set(owners))
    assert all(belongs)
    assert sum(map(len, found.values())) == len(labels)
    if not fold:
        assert abs(len(found["test"]) - 0.2 * len(labels)) <= max(Counter(owners).values())


def test_rare_combinations_of_labels_are_stratified() -> None:
    """Every combination occurs twice, or once."""
    combinations = [{"abcdefghij"[k] for k in range(10) if i >> k & 1} for i in range(1, 101)]
    for labels, seed in ((combinations * 2, 0), (combinations, 1)):
        found = Splits(0.1, 0.1).complete(several(labels), seed)
        assert len(found["test"]) == len(labels) // 10
        assert len(found["val"]) == round(0.09 * len(labels))
        whole = held(several(labels)["train"])
        for split in ("val", "test"):
            assert set(held(found[split])) == set(whole)
            share = len(found[split]) / len(labels)
            assert all(abs(held(found[split])[label] - share * whole[label]) <= 3 for label in whole)


def test_classes_of_two_items_leave_enough_to_train_on() -> None:
    found = Splits(0.1, 0.1).complete(items([i // 2 for i in range(200)]), 0)
    assert {split: len(members) for split, members in found.items()} == {"train": 162, "val": 18, "test": 20}
    assert {item.stratum for item in found["train"]} == set(range(100))


def test_published_splits_can_be_ignored() -> None:
    given = {"train": items([0, 1] * 10, ["a", "b"] * 10)["train"], "test": [Item("t", 1, "c", 1)]}
    for fold in range(3):
        found = Splits(0.1, 0.0, folds=3, fold=fold, published=False).complete(given, 0)
        assert set(found) == {"train", "val"}
        assert len({item.group for item in found["val"]}) == 1
    assert sum(map(len, found.values())) == 21


@pytest.mark.parametrize("stratum", [0, ("a", "b")])
def test_three_groups_of_uneven_size_are_a_split_each(stratum: object) -> None:
    given = [Item(str(i), 0, "p" if i < 10 else f"q{i}", stratum) for i in range(12)]  # type: ignore[arg-type]
    found = Splits(0.2, 0.2).complete({"train": given}, 0)
    assert {split: len(members) for split, members in found.items()} == {"train": 10, "val": 1, "test": 1}
