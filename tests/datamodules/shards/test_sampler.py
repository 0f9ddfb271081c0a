"""Batches of items that lie in shards."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.shards.sampler import ShardBatchSampler

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=12).filter(lambda counts: sum(counts) >= 4)
SIZES = st.integers(1, 9)


def drawn(
    counts: list[int], size: int, world_size: int, epoch: int = 0, shuffle_shards: int = 2, **more: int
) -> list[list[list]]:
    """The batches of every process."""
    found = []
    for rank in range(world_size):
        batches = ShardBatchSampler(counts, shuffle_shards, size, 5, rank, world_size, **more)
        batches.set_epoch(epoch)
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
    return found


def shards_of(counts: list[int], batches: list[list]) -> set[int]:
    ends = np.cumsum(counts)
    return {int(np.searchsorted(ends, index, side="right")) for batch in batches for _, index in batch}


@settings(deadline=None)
@given(COUNTS, SIZES, st.integers(1, 4), st.integers(0, 3), st.integers(1, 5))
def test_every_item_once_and_equal_steps_per_process(
    counts: list[int], size: int, world_size: int, epoch: int, shuffle_shards: int
) -> None:
    found = drawn(counts, size, world_size, epoch, shuffle_shards)
    indices = [index for batches in found for batch in batches for _, index in batch]
    assert sorted(indices) == list(range(sum(counts)))
    assert len({len(batches) for batches in found}) == 1
    lengths = [len(batch) for batches in found for batch in batches]
    assert min(lengths) >= 1
    assert max(lengths) <= size + 2
    for batches in found:
        own = [len(batch) for batch in batches]
        assert max(own) - min(own) <= 1
    totals = [sum(map(len, batches)) for batches in found]
    assert max(totals) - min(totals) <= 1


@pytest.mark.slow
@settings(deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(0, 3))
def test_processes_share_the_shards_at_the_cuts_only(counts: list[int], world_size: int, epoch: int) -> None:
    sets = [shards_of(counts, batches) for batches in drawn(counts, 3, world_size, epoch)]
    shared = Counter(shard for own in sets for shard in own)
    assert sum(times - 1 for times in shared.values()) <= world_size - 1


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_equal_shards_belong_to_one_process_each(world_size: int) -> None:
    counts = [7] * 12
    seen = []
    for epoch in range(3):
        sets = [shards_of(counts, batches) for batches in drawn(counts, 4, world_size, epoch)]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 12
        seen.append(sets)
    assert seen[0] != seen[1] != seen[2]


def test_few_shards_are_used_at_a_time() -> None:
    counts = [10] * 20
    (batches,) = drawn(counts, 5, 1, shuffle_shards=4)
    for start in range(0, len(batches), 8):
        assert len(shards_of(counts, batches[start : start + 8])) == 4
    first = [index for _, index in batches[0]]
    assert len({index // 10 for index in first}) > 1, "items of several shards are mixed"


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    assert drawn([9, 4, 8], 4, 2, 1) == drawn([9, 4, 8], 4, 2, 1)
    assert drawn([9, 4, 8], 4, 2, 1) != drawn([9, 4, 8], 4, 2, 2)


def test_a_longer_epoch_starts_another_pass() -> None:
    (batches,) = drawn([5, 5], 5, 1, length=5)
    assert len(batches) == 5
    assert Counter(index for batch in batches[:4] for _, index in batch) == dict.fromkeys(range(10), 2)
    assert {number for batch in batches for number, _ in batch} == {0, 1, 2}


def test_validation_keeps_the_order() -> None:
    batches = ShardBatchSampler([3, 4], 2, 4)
    assert [index for batch in batches for _, index in batch] == list(range(7))
