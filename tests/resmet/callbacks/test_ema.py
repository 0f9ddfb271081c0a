"""The average starts with the weights of the run that it belongs to."""

from types import SimpleNamespace

import torch
from torch import nn

from resmet.callbacks.ema import WeightAveraging


def test_a_try_that_failed_in_a_validation_leaves_nothing() -> None:
    """Memory ran out there, and the run begins again with smaller batches."""
    net, trainer = nn.Linear(2, 1), SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    first = {name: value.clone() for name, value in net.state_dict().items()}
    average = WeightAveraging(0.5)
    average.on_train_start(trainer, net)
    trainer.global_step = 1
    with torch.no_grad():
        net.weight += 1
    average.on_train_batch_end(trainer, net, None, None, 0)
    average.on_validation_start(trainer, net)
    assert average.swapped
    net.load_state_dict(first)
    trainer.global_step = 0
    average.on_train_start(trainer, net)
    assert not average.swapped
    average.on_validation_start(trainer, net)
    assert all(torch.equal(value, first[name]) for name, value in net.state_dict().items())
    average.on_train_epoch_end(trainer, net)
    assert all(torch.equal(value, first[name]) for name, value in net.state_dict().items())
