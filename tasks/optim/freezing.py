"""Which stages of the backbone learn, and when. A stage that sleeps stands still altogether: weights, statistics, dropout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from backbones.base import Backbone
from foundation.structures import InputError


@dataclass(frozen=True)
class Plan:
    """First the backbone sleeps, then its stages wake one by one, the deepest first; the head is always awake.

    All epochs asleep is a linear probe; half of them is LP-FT (Kumar et al., 2022, arXiv:2202.10054); none asleep, but waking, is
    gradual unfreezing (Howard & Ruder, 2018, arXiv:1801.06146).

    Args:
        frozen: Share of the epochs in which the whole backbone sleeps, 0 to 1.
        waking: Share of the epochs, after those, over which its stages wake, 0 to 1.
        keep: Compute the sleeping backbone's features once, instead of every epoch. Training items are not changed randomly
            meanwhile, nor mixed.

    Raises:
        InputError: If a share is outside 0..1, or both together exceed 1.
    """

    frozen: float = 0.0
    waking: float = 0.0
    keep: bool = True

    def __post_init__(self) -> None:
        for name in ("frozen", "waking"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"recipe.plan.{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.frozen + self.waking > 1:
            raise InputError(
                f"recipe.plan: frozen and waking share the epochs of a run, but {self.frozen} + {self.waking} is more than 1"
            )

    @property
    def rests(self) -> bool:
        """Whether any stage ever sleeps."""
        return self.frozen > 0 or self.waking > 0

    def unfrozen_stages(self, stages: int, epoch: int, epochs: int) -> int:
        """How many of `stages`, counted from the deepest, learn in `epoch` of 0..`epochs`-1."""
        first, last = round(self.frozen * epochs), round((self.frozen + self.waking) * epochs)
        if epoch >= last:
            return stages
        return 0 if epoch < first else stages * (epoch - first) // (last - first)

    def wakes(self, depth: int, stages: int, epochs: int) -> int:
        """The epoch in which the `depth`-th stage from the stem (0 the stem itself) wakes; `epochs` if never."""
        needed = stages - depth
        return next((epoch for epoch in range(epochs) if self.unfrozen_stages(stages, epoch, epochs) >= needed), epochs)

    def still(self, stages: int, epochs: int) -> int:
        """The number of first epochs whose features are kept: the whole backbone sleeps."""
        return self.wakes(stages - 1, stages, epochs) if self.keep else 0


def sleepers(backbone: Backbone, unfrozen_stages: int) -> list[nn.Module]:
    """The modules of all stages but the `awake` deepest."""
    names = list(backbone.stages.values())
    return [backbone.get_submodule(name) for stage in names[: len(names) - unfrozen_stages] for name in stage]


def settle(backbone: Backbone, unfrozen_stages: int) -> None:
    """Let the `awake` deepest stages learn and no other."""
    backbone.requires_grad_(True)
    for module in sleepers(backbone, unfrozen_stages):
        module.requires_grad_(False)
    backbone.zero_grad(set_to_none=True)  # a stale gradient would move a sleeping weight


def rest(backbone: Backbone, unfrozen_stages: int) -> None:
    """Put sleeping stages into evaluation mode: batch statistics are used, not gathered, and nothing is dropped."""
    for module in sleepers(backbone, unfrozen_stages):
        module.eval()
