"""Stratified splits of items with any number of labels: every part gets its fraction of every label.

Source: Sechidis, Tsoumakas & Vlahavas, 2011, "On the stratification of multi-label data": the rarest label first, every item to the
part that lacks most of it. scikit-learn has no such split, iterative-stratification no groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

MAX_CANDIDATES = 50
"""Units that are considered for a swap that gives a part a label it lacks."""

Unit = tuple[int, frozenset[Hashable]]
"""An item or a group, which is never divided: its number of items, and all their labels."""


def stratified_parts(
    units: Sequence[Unit], fractions: Sequence[float], seed: int, train_first: bool = False
) -> list[int]:
    """Assigns every unit to a part, 0 to ``len(fractions) - 1``.

    If every unit is one item, a part has its fraction of all items, rounded; otherwise it is off by less than the largest unit.

    Args:
        fractions: The fraction of everything that each part should have; together 1.
        seed: Of the choice among equals.
        train_first: Whether the first part is the training split: a label of a single unit has to be in it, and a label of several
            units in all parts where possible.
    """
    assignment = Assignment(units, fractions, seed, train_first)
    assignment.assign_all()
    minimum = [2 if train_first and len(units) > 2 else 1, *[1] * (len(fractions) - 1)]  # two can be divided once more
    parts = fill_empty([assignment.part_of[index] for index in range(len(units))], units, minimum)
    frequent = {label: held for label, held in assignment.holders.items() if len(held) >= 2 * len(fractions)}
    for label in sorted(frequent, key=str):
        for part in sorted(set(range(len(fractions))) - {parts[index] for index in frequent[label]}):
            swap_in(units, parts, part, frequent[label])
    return parts


class Assignment:
    """The state of the assignment of units to parts, see `stratified_parts`.

    Attributes:
        part_of: The part of every unit that is assigned already.
        holders: The units that carry each label, in the order in which they are assigned.
        space: Items that each part still lacks.
        wanted: Units that each part still lacks, by label.
        left: Units that are not assigned yet, by label.
    """

    def __init__(self, units: Sequence[Unit], fractions: Sequence[float], seed: int, train_first: bool) -> None:
        self.units, self.train_first = units, train_first
        order = np.random.default_rng((seed, len(units))).permutation(len(units)).tolist()
        self.order = sorted(
            order, key=lambda index: -units[index][0]
        )  # large units first: small ones fit the remaining gaps
        self.holders: dict[Hashable, list[int]] = defaultdict(list)
        for index in self.order:
            for label in units[index][1]:
                self.holders[label].append(index)
        self.space = part_sizes(sum(size for size, _ in units), fractions)
        self.wanted = {label: label_goals(len(held), fractions, train_first) for label, held in self.holders.items()}
        self.left = {label: len(held) for label, held in self.holders.items()}
        self.part_of: dict[int, int] = {}
        self.in_training: set[Hashable] = set()

    def assign_all(self) -> None:
        while unassigned := {label: number for label, number in self.left.items() if number}:
            rarest = min(unassigned, key=lambda label: (unassigned[label], str(label)))
            for index in self.holders[rarest]:
                if index not in self.part_of:
                    self.assign(index, self.wanted[rarest])
        for index in self.order:  # those without labels
            if index not in self.part_of:
                self.assign(index, self.space)

    def assign(self, index: int, goal: np.ndarray) -> None:
        size, labels = self.units[index]
        last = self.train_first and any(self.left[label] == 1 and label not in self.in_training for label in labels)
        part = 0 if last else neediest(size, self.space, goal)
        self.part_of[index] = part
        self.space[part] -= size
        self.in_training.update(labels if part == 0 else ())
        for label in labels:
            self.wanted[label][part] -= 1
            self.left[label] -= 1


def swap_in(units: Sequence[Unit], parts: list[int], part: int, wanted: Sequence[int]) -> None:
    """Swaps one of the `wanted` units for one of `part` of the same size, if neither side then lacks another label."""
    counts = [
        Counter(label for i, (_, labels) in enumerate(units) if parts[i] == p for label in labels)
        for p in range(max(parts) + 1)
    ]
    members = [index for index in range(len(units)) if parts[index] == part]
    for new in wanted[:MAX_CANDIDATES]:
        size, labels = units[new]
        other = parts[new]
        for old in members:
            given = units[old][1]
            keeps = all(counts[part][label] > 1 for label in given - labels)
            if units[old][0] == size and keeps and all(counts[other][label] > 1 for label in labels - given):
                parts[new], parts[old] = part, other
                return


def part_sizes(total: int, fractions: Sequence[float]) -> np.ndarray:
    """Returns the number of items that each part should have; all but the first rounded and at least 1."""
    if len(set(fractions)) == 1:
        return np.array([float((total + place) // len(fractions)) for place in reversed(range(len(fractions)))])
    others = [float(max(1, round(fraction * total))) for fraction in fractions[1:]]
    return np.array([total - sum(others), *others])


def label_goals(count: int, fractions: Sequence[float], everywhere: bool) -> np.ndarray:
    """Returns how many of a label's `count` units each part should have; with `everywhere` at least one, if there are enough."""
    goals = count * np.array(fractions)
    if everywhere and count >= len(fractions):
        goals[1:] = np.maximum(1, goals[1:])
        goals[0] = count - goals[1:].sum()
    return goals


def neediest(size: int, space: np.ndarray, goal: np.ndarray) -> int:
    """Returns the part with the highest goal, then the most space, among those that have space for at least half of `size` items."""
    candidates = [part for part in range(len(space)) if space[part] >= size / 2] or [int(space.argmax())]
    return max(candidates, key=lambda part: (round(float(goal[part]), 6), space[part]))


def fill_empty(parts: list[int], units: Sequence[Unit], minimum: Sequence[int]) -> list[int]:
    """Returns `parts` with at least `minimum` units in each where possible, taken from the fullest part.

    Units whose labels the fullest part has more than once are moved first, then small ones.
    """
    while lacking := [part for part, number in enumerate(minimum) if parts.count(part) < number]:
        fullest = max(range(len(minimum)), key=lambda part: (parts.count(part) - minimum[part], -part))
        members = [index for index, part in enumerate(parts) if part == fullest]
        if len(members) <= minimum[fullest]:
            break
        counts = Counter(label for index in members for label in units[index][1])
        spare = min(members, key=lambda i: (sum(counts[label] == 1 for label in units[i][1]), units[i][0]))
        parts[spare] = lacking[0]
    return parts
