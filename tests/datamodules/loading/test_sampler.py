"""Which items form which batch."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_factories import set_up
from fixture_files import write_image, write_voc_annotation
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from datamodules.formats.voc import Voc
from datamodules.loading.sampler import BatchSampler
from datamodules.splits.splits import Splits
from datamodules.synthetic import Scenes

COUNTS = st.integers(2, 60)
SIZES = st.integers(1, 17)


@settings(deadline=None)
@given(COUNTS, SIZES, st.integers(0, 3))
def test_every_item_once_per_epoch_and_never_alone(count: int, size: int, epoch: int) -> None:
    batches = BatchSampler(count, size, seed=3)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert sorted(index for batch in drawn for _, index in batch) == list(range(count))
    assert {number for batch in drawn for number, _ in batch} == {epoch}
    assert len(drawn) == len(batches)
    if size > 1:
        assert min(map(len, drawn)) > 1


WORLDS = st.integers(1, 5)


def by_rank(count: int, size: int, seed: int | None, world_size: int, length: int | None = None) -> list[list]:
    return [list(BatchSampler(count, size, seed, rank, world_size, length)) for rank in range(world_size)]


@settings(deadline=None)
@given(st.integers(1, 60), SIZES, WORLDS)
def test_ranks_take_the_evaluation_batches_of_one_process_in_turn(count: int, size: int, world_size: int) -> None:
    whole, parts = list(BatchSampler(count, size)), by_rank(count, size, None, world_size)
    for i, batch in enumerate(whole):
        assert parts[i % world_size][i // world_size] == batch
    assert sum(len(batch) for part in parts for batch in part) == count
    assert [len(part) for part in parts] == [
        len(BatchSampler(count, size, None, rank, world_size)) for rank in range(world_size)
    ]
    assert all(part[:-1] + part[-1:] == [batch for batch in part if batch] or part == [[]] for part in parts)


@settings(deadline=None)
@given(COUNTS, SIZES, WORLDS, st.none() | st.integers(1, 30))
def test_ranks_split_the_training_batches_of_one_process(
    count: int, size: int, world_size: int, length: int | None
) -> None:
    """At every step they take the items of a process with `world_size` times the batch size, in its order, evenly."""
    if count < world_size:
        with refused("trainer.too_many_processes"):
            BatchSampler(count, size, 1, 0, world_size)
        return
    parts = by_rank(count, size, 1, world_size, length)
    assert len({len(part) for part in parts}) == 1
    whole = list(BatchSampler(count, size * world_size, 1, length=length))
    together = [[index for batch in step for index in batch] for step in zip(*parts, strict=True)]
    if count % (size * world_size) >= max(2, world_size) or count % (size * world_size) == 0:
        assert together == whole
    elif length is None:  # the last batch, too small for all ranks, has joined another
        assert [index for step in together for index in step] == [index for step in whole for index in step]
    for step in zip(*parts, strict=True):
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= size + 1


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list:
        batches = BatchSampler(50, 8, seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(0, 4) == order(0, 4)
    assert order(0, 4) != order(0, 5)
    assert [i for _, i in order(0, 4)[0]] != [i for _, i in order(1, 4)[0]]


def test_a_longer_epoch_repeats_the_items() -> None:
    batches = BatchSampler(10, 4, seed=0, length=7)
    drawn = list(batches)
    assert len(drawn) == 7
    counts = Counter(index for batch in drawn for _, index in batch)
    assert set(counts) == set(range(10))
    assert {number for batch in drawn for number, _ in batch} == {0, 1, 2}


@pytest.mark.parametrize(("count", "size", "lengths"), [(9, 4, [4, 5]), (3, 4, [3]), (8, 4, [4, 4]), (5, 1, [1] * 5)])
def test_a_last_batch_of_one_item_joins_the_batch_before_it(count: int, size: int, lengths: list[int]) -> None:
    assert [len(batch) for batch in BatchSampler(count, size, seed=0)] == lengths


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(0, 3))
def test_balanced_draws_every_class_equally_often(labels: list[int], epoch: int) -> None:
    batches = BatchSampler(len(labels), 4, seed=3, labels=labels)
    drawn = batches.order(epoch).tolist()
    counts = Counter(labels[index] for index in drawn)
    assert len(drawn) == len(labels)
    assert max(counts.values()) - min(counts.get(label, 0) for label in labels) <= 1
    again = BatchSampler(len(labels), 4, seed=3, labels=labels)
    assert again.order(epoch).tolist() == drawn


SHAPES = st.lists(st.sampled_from([(48, 64), (64, 48), (64, 64), (32, 64), (64, 36)]), min_size=4, max_size=90)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 9), st.integers(1, 3), st.integers(0, 3), st.none() | st.integers(1, 30))
def test_items_of_similar_shape_form_batches_with_any_number_of_ranks(
    shapes: list[tuple[int, int]], size: int, world_size: int, epoch: int, length: int | None
) -> None:
    """Every item once per pass, and the same global batches with any number of ranks."""

    def drawn(rank: int, world_size: int, size: int) -> list:
        batches = BatchSampler(len(shapes), size, 3, rank, world_size, length, shapes=shapes)
        batches.set_epoch(epoch)
        return list(batches)

    parts = [drawn(rank, world_size, size) for rank in range(world_size)]
    together = [[index for batch in step for index in batch] for step in zip(*parts, strict=True)]
    if length is None:
        assert sorted(index for batch in together for _, index in batch) == list(range(len(shapes)))
    if len(shapes) % (size * world_size) >= max(2, world_size) or len(shapes) % (size * world_size) == 0:
        assert together == drawn(0, 1, size * world_size)
    again = BatchSampler(len(shapes), size, 3, 0, world_size, length, shapes=shapes)
    again.start_at(epoch, 2)
    assert list(again) == parts[0][2:]


def padded(batches: BatchSampler, shapes: list[tuple[int, int]]) -> float:
    """Returns the fraction of padding among all pixels."""
    full = own = 0
    for batch in batches:
        sizes = np.array([shapes[index] for _, index in batch])
        full += len(sizes) * sizes.max(0).prod()
        own += sizes.prod(1).sum()
    return 1 - own / full


def test_batches_of_similar_shapes_have_little_padding() -> None:
    generator = np.random.default_rng(0)
    shapes = [
        (480, int(480 * r)) if up else (int(480 * r), 480)
        for r, up in zip(generator.uniform(0.6, 0.8, 400), [0, 1] * 200, strict=True)
    ]
    mixed, grouped = BatchSampler(400, 4, 0), BatchSampler(400, 4, 0, shapes=shapes)
    assert padded(mixed, shapes) > 0.25
    assert padded(grouped, shapes) < 0.04


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("count", [48, 200])
def test_batches_of_similar_shapes_are_random(count: int, distinct: bool) -> None:
    shapes = [(48 + distinct * i % 9, 64) if i % 2 else (64, 48 + distinct * i % 9) for i in range(count)]
    batches = BatchSampler(count, 4, 0, shapes=shapes)
    epochs = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        epochs.append([[index for _, index in batch] for batch in batches])
    assert not {frozenset(batch) for batch in epochs[0]} & {frozenset(batch) for batch in epochs[1]}
    portrait = [batch[0] % 2 == 0 for batch in epochs[0]]
    assert sum(a != b for a, b in zip(portrait, portrait[1:], strict=False)) > count / 20  # not sorted


def test_equal_shapes_and_balanced_classes_are_not_grouped() -> None:
    assert list(BatchSampler(30, 4, 0, shapes=[(9, 9)] * 30)) == list(BatchSampler(30, 4, 0))
    balanced = {"labels": [0, 1] * 15}
    assert list(BatchSampler(30, 4, 0, shapes=[(9, 9), (9, 3)] * 15, **balanced)) == list(
        BatchSampler(30, 4, 0, **balanced)
    )


def test_data_whose_images_differ_in_shape_is_grouped(tmp_path: Path) -> None:
    """Also after an item was skipped."""
    for i in range(24):
        size = (64, 40) if i % 3 else (40, 64)
        write_image(tmp_path / "JPEGImages" / f"{i}.png", size, seed=i)
        write_voc_annotation(tmp_path, str(i), [("a", 5, 5, 30, 30)], size)
    (tmp_path / "JPEGImages" / "0.png").write_bytes(b"none")
    data = set_up(Voc(str(tmp_path), batch_size=2, on_error="skip", splits=Splits(val=0.2, test=0.0)))
    items, batches = data.datasets["train"], data.batch_sampler("train")
    assert items.image_shapes() == [tuple(items.sample(i)[0].shape[1:]) for i in range(len(items))]
    mixed = [len({items.image_shapes()[index] for _, index in batch}) for batch in batches]
    assert sum(count > 1 for count in mixed) <= 3
    assert data.batch_sampler("val").shape_ranks is None
    assert set_up(Scenes(target="boxes", count=20)).batch_sampler("train").shape_ranks is None
