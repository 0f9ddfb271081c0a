"""Which stages of the backbone train, and when.

A frozen stage has ``requires_grad=False`` and stays in evaluation mode, so its BatchNorm statistics and its dropout are frozen too.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from backbones.base import Backbone
from foundation.structures import require_range


@dataclass(frozen=True)
class FreezeSchedule:
    """Freezes the whole backbone at first, then unfreezes its stages one by one, the deepest first. The head always trains.

    ``frozen=1`` is a linear probe, ``frozen=0.5`` is LP-FT (Kumar et al., 2022, arXiv:2202.10054), and ``unfreezing`` alone is
    gradual unfreezing (Howard & Ruder, 2018, arXiv:1801.06146).

    Args:
        frozen: Fraction of the epochs in which the whole backbone is frozen, 0 to 1.
        unfreezing: Fraction of the epochs, after those, over which its stages are unfrozen, 0 to 1.
        cache_features: Compute the features of a frozen backbone once instead of every epoch. Meanwhile training items are neither
            augmented nor mixed.
    """

    frozen: float = 0.0
    unfreezing: float = 0.0
    cache_features: bool = True

    def __post_init__(self) -> None:
        for name in ("frozen", "unfreezing"):
            require_range(f"recipe.freeze.{name}", vars(self)[name], 0, 1)
        require_range("recipe.freeze.frozen + recipe.freeze.unfreezing", self.frozen + self.unfreezing, 0, 1)

    @property
    def freezes(self) -> bool:
        """Whether any stage is ever frozen."""
        return self.frozen > 0 or self.unfreezing > 0

    def unfrozen_stages(self, stages: int, epoch: int, epochs: int) -> int:
        """Returns how many of `stages`, counted from the deepest, train in `epoch` of 0..`epochs`-1."""
        first, last = round(self.frozen * epochs), round((self.frozen + self.unfreezing) * epochs)
        if epoch >= last:
            return stages
        return 0 if epoch < first else stages * (epoch - first) // (last - first)

    def unfreeze_epoch(self, depth: int, stages: int, epochs: int) -> int:
        """Returns the first epoch in which the stage at `depth` (0 is the stem) trains; `epochs` if it never does."""
        needed = stages - depth
        return next((epoch for epoch in range(epochs) if self.unfrozen_stages(stages, epoch, epochs) >= needed), epochs)

    def cached_epochs(self, stages: int, epochs: int) -> int:
        """Returns the number of epochs at the start whose features are cached: the whole backbone is frozen."""
        return self.unfreeze_epoch(stages - 1, stages, epochs) if self.cache_features else 0


def frozen_modules(backbone: Backbone, unfrozen_stages: int) -> list[nn.Module]:
    """Returns the modules of all stages but the `unfrozen_stages` deepest."""
    names = list(backbone.stages.values())
    return [backbone.get_submodule(name) for stage in names[: len(names) - unfrozen_stages] for name in stage]


def freeze(backbone: Backbone, unfrozen_stages: int) -> None:
    """Sets ``requires_grad``: true in the `unfrozen_stages` deepest stages only."""
    backbone.requires_grad_(True)
    for module in frozen_modules(backbone, unfrozen_stages):
        module.requires_grad_(False)
    backbone.zero_grad(set_to_none=True)  # a stale gradient would move a frozen weight


def eval_frozen(backbone: Backbone, unfrozen_stages: int) -> None:
    """Puts frozen stages into evaluation mode: BatchNorm uses its statistics without updating them, and dropout is off."""
    for module in frozen_modules(backbone, unfrozen_stages):
        module.eval()
