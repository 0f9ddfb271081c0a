"""The learning-rate schedule: linear warm-up, then half a cosine."""

from __future__ import annotations

import math


def lr_factor(step: float, steps: int, warmup: int, min_ratio: float, start: int = 0) -> float:
    """Returns the factor of the learning rate at `step` of `steps`: up to 1 over `warmup` steps, then half a cosine down to `min_ratio`.

    Parameters that are unfrozen at step `start` warm up to the factor that the others have by then. Source: Loshchilov & Hutter, 2016
    (arXiv:1608.03983).
    """
    climb = min(1.0, max(0, step - start + 1) / (warmup + 1))
    done = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
    return climb * (min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * done)) / 2)
