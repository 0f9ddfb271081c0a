"""The Dice loss over all items of a step, on any number of ranks."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from foundation.parallel.collectives import sum_over_ranks
from foundation.structures import IGNORE

EPSILON = 1e-7  # smallest denominator


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - 2 |A and B| / (|A| + |B|) averaged over classes; the loss of a class without a target pixel is 0.

    Source: Milletari et al., 2016 (arXiv:1606.04797); values equal segmentation_models_pytorch's `DiceLoss`.

    Args:
        logits: (N, C, H, W); a single channel is the foreground (sigmoid), several are classes (softmax).
        target: Classes (N, H, W), int64; `IGNORE` is left out.
    """
    classes = logits.shape[1]
    valid = (target != IGNORE).flatten(1).unsqueeze(1)
    probability = (logsigmoid(logits) if classes == 1 else logits.log_softmax(1)).exp().flatten(2) * valid
    if classes == 1:
        truth = target.flatten(1).unsqueeze(1) * valid
    else:
        truth = one_hot(target.flatten(1) * valid[:, 0], classes).movedim(2, 1) * valid
    truth = truth.type_as(probability)
    sums = [(probability * truth).sum((0, 2)), (probability + truth).sum((0, 2)), truth.sum((0, 2))]
    intersection, cardinality, true = sum_over_ranks(torch.stack(sums))
    return ((1 - 2 * intersection / cardinality.clamp(min=EPSILON)) * (true > 0)).mean()
