"""The exponential moving average of the weights, and when the task holds it."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from resmet.callbacks.ema import WeightAveraging


def test_a_retry_after_a_failed_validation_starts_a_new_average() -> None:
    """As after an out-of-memory error in a validation, when the run starts again with smaller batches."""
    net: Any = nn.Linear(2, 1)
    trainer: Any = SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    first = {name: value.clone() for name, value in net.state_dict().items()}
    averaging = WeightAveraging(0.5)
    averaging.on_train_start(trainer, net)
    trainer.global_step = 1
    with torch.no_grad():
        net.weight += 1
    averaging.on_train_batch_end(trainer, net, None, None, 0)
    averaging.on_validation_start(trainer, net)
    assert averaging.swapped
    net.load_state_dict(first)
    trainer.global_step = 0
    averaging.on_train_start(trainer, net)
    assert not averaging.swapped
    for hook in (averaging.on_validation_start, averaging.on_train_epoch_end):
        hook(trainer, net)
        assert all(torch.equal(value, first[name]) for name, value in net.state_dict().items())
