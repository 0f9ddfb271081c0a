"""The Dice loss over all items of a step, also where several processes have a part of them each."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from foundation.parallel.collectives import sum_over_ranks
from foundation.structures import IGNORE

LEAST = 1e-7  # of a denominator


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 |A and B| / (|A| + |B|), the mean over classes; a class of which there is no true pixel counts as 0.

    Source: Milletari et al., 2016 (arXiv:1606.04797); the figures equal segmentation_models_pytorch's `DiceLoss`.

    Args:
        logits: (N, C, H, W); a single channel is the one class that is no background (sigmoid), several share one (softmax).
        target: Classes (N, H, W), int64, `IGNORE` where neither counts.
    """
    classes = logits.shape[1]
    valid = (target != IGNORE).flatten(1).unsqueeze(1)
    share = (logsigmoid(logits) if classes == 1 else logits.log_softmax(1)).exp().flatten(2) * valid
    if classes == 1:
        truth = target.flatten(1).unsqueeze(1) * valid
    else:
        truth = one_hot(target.flatten(1) * valid[:, 0], classes).movedim(2, 1) * valid
    truth = truth.type_as(share)
    hit, sizes, true = sum_over_ranks(
        torch.stack([(share * truth).sum((0, 2)), (share + truth).sum((0, 2)), truth.sum((0, 2))])
    )
    return ((1 - 2 * hit / sizes.clamp(min=LEAST)) * (true > 0)).mean()
