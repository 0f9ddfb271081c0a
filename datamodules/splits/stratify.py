"""Items of any number of labels, shared out so that every part has its share of every label.

Source: Sechidis, Tsoumakas & Vlahavas, 2011, "On the stratification of multi-label data": the rarest label first, every item to the
part that lacks most of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

TRIED = 50  # units that may be exchanged for a label that a part lacks

Unit = tuple[int, frozenset[Hashable]]
"""What stays together, an item or a group: how many items it has, and all labels that it carries."""


def share_out(units: Sequence[Unit], shares: Sequence[float], seed: int, first_knows_all: bool = False) -> list[int]:
    """The part, 0 to ``len(shares) - 1``, of every unit.

    Where every unit is one item, a part has its share of all items, rounded; else it is off by less than the largest unit.

    Args:
        units: What is shared out.
        shares: How much of everything each part should have; together 1.
        seed: Of the choice among equals.
        first_knows_all: Whether a label of a single unit has to be in the first part, and a label of several in all of them
            where that can be.
    """
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for index in by_size(units, seed):
        for label in units[index][1]:
            holders[label].append(index)
    space = spaces(sum(size for size, _ in units), shares)
    wanted = {label: wishes(len(held), shares, first_knows_all) for label, held in holders.items()}
    left = {label: len(held) for label, held in holders.items()}
    part_of: dict[int, int] = {}
    known: set[Hashable] = set()  # to the first part

    def put(index: int, wish: np.ndarray) -> None:
        size, labels = units[index]
        last = first_knows_all and any(left[label] == 1 and label not in known for label in labels)
        part = 0 if last else roomiest(size, space, wish)
        part_of[index] = part
        space[part] -= size
        known.update(labels if part == 0 else ())
        for label in labels:
            wanted[label][part] -= 1
            left[label] -= 1

    while waiting := {label: number for label, number in left.items() if number}:
        rarest = min(waiting, key=lambda label: (waiting[label], str(label)))
        for index in holders[rarest]:
            if index not in part_of:
                put(index, wanted[rarest])
    for index in by_size(units, seed):
        if index not in part_of:
            put(index, space)
    least = [2 if first_knows_all and len(units) > 2 else 1, *[1] * (len(shares) - 1)]  # two can be divided once more
    parts = filled([part_of[index] for index in range(len(units))], units, least)
    for label in sorted((label for label, held in holders.items() if len(held) >= 2 * len(shares)), key=str):
        for part in sorted(set(range(len(shares))) - {parts[index] for index in holders[label]}):
            exchange(units, parts, part, holders[label])
    return parts


def exchange(units: Sequence[Unit], parts: list[int], part: int, wanted: list[int]) -> None:
    """Give `part` one of the `wanted` units for one of its own of the same size, if neither side then lacks another label."""
    held = [
        Counter(label for i, (_, labels) in enumerate(units) if parts[i] == p for label in labels)
        for p in range(max(parts) + 1)
    ]
    own = [index for index in range(len(units)) if parts[index] == part]
    for new in wanted[:TRIED]:
        size, labels = units[new]
        other = parts[new]
        for old in own:
            given = units[old][1]
            keeps = all(held[part][label] > 1 for label in given - labels)
            if units[old][0] == size and keeps and all(held[other][label] > 1 for label in labels - given):
                parts[new], parts[old] = part, other
                return


def by_size(units: Sequence[Unit], seed: int) -> list[int]:
    """Indices in random order, the large ones first: what is left over must fit the gaps."""
    order = np.random.default_rng((seed, len(units))).permutation(len(units)).tolist()
    return sorted(order, key=lambda index: -units[index][0])


def spaces(total: int, shares: Sequence[float]) -> np.ndarray:
    """How many items each part should have, in whole numbers, all but the first rounded and at least 1."""
    if len(set(shares)) == 1:
        return np.array([float((total + place) // len(shares)) for place in reversed(range(len(shares)))])
    others = [float(max(1, round(share * total))) for share in shares[1:]]
    return np.array([total - sum(others), *others])


def wishes(number: int, shares: Sequence[float], everywhere: bool) -> np.ndarray:
    """How many of a label's `number` units each part should have; `everywhere` one at least, the first part before the others."""
    wish = number * np.array(shares)
    if everywhere and number >= len(shares):
        wish[1:] = np.maximum(1, wish[1:])
        wish[0] = number - wish[1:].sum()
    return wish


def roomiest(size: int, space: np.ndarray, wish: np.ndarray) -> int:
    """Of the parts in which `size` more items find room, by half at least, the one of the greatest wish, then of the most room."""
    open_ = [part for part in range(len(space)) if space[part] >= size / 2] or [int(space.argmax())]
    return max(open_, key=lambda part: (round(float(wish[part]), 6), space[part]))


def filled(parts: list[int], units: Sequence[Unit], least: Sequence[int]) -> list[int]:
    """`parts` with the `least` number of units in each, as far as there are so many: a part that lacks some takes them of the fullest.

    Units whose labels the fullest holds besides go first, then small ones.
    """
    while lacking := [part for part, number in enumerate(least) if parts.count(part) < number]:
        fullest = max(range(len(least)), key=lambda part: (parts.count(part) - least[part], -part))
        own = [index for index, part in enumerate(parts) if part == fullest]
        if len(own) <= least[fullest]:
            break
        held = Counter(label for index in own for label in units[index][1])
        spare = min(own, key=lambda i: (sum(held[label] == 1 for label in units[i][1]), units[i][0]))
        parts[spare] = lacking[0]
    return parts
