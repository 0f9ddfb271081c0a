"""Seeds are the same on every machine and version, and differ from each other."""

import torch

from foundation.seeds import seed_from, seeds_from


def test_seeds_never_change() -> None:
    """A resumed run depends on them, whichever versions of Python and numpy it resumes with."""
    assert [seed_from(0), seed_from(0, 0), seed_from(7, 3, 40)] == [
        3717377837946358015,
        5064105440874769477,
        4195495148028870190,
    ]
    assert seeds_from(1, 2, count=3).tolist() == [1826972086523782664, 4106850894729071137, 6046850813158239169]


def test_more_seeds_begin_with_the_same() -> None:
    assert seeds_from(1, 2, count=1000)[:10].tolist() == seeds_from(1, 2, count=10).tolist()
    assert seeds_from(1, 2, count=1)[0] == seed_from(1, 2)


def test_seeds_differ_and_fit_a_generator() -> None:
    """Also where numbers are zero, or more of them are given."""
    seeds = [*seeds_from(0, 0, count=10_000).tolist(), *seeds_from(0, 1, count=10_000).tolist()]
    seeds += [seed_from(*[0] * length) for length in (1, 3, 4, 5)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert torch.Generator().manual_seed(max(seeds)).initial_seed() == max(seeds)
