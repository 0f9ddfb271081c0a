"""The state of a run besides weights and optimizer: one owner, used by task, data and callbacks. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from foundation.durations import Clock


@dataclass(eq=False)
class RunState:
    """The state that several objects share during a run. Read its attributes; change them through its methods.

    Every task has one, and a Trainer that sets up a task and a data module binds the data module to it. Checkpoints hold its
    `state_dict`.

    Attributes:
        clock: Where the run reads the time.
        lr_scale: Factor of all learning rates; below 1 after a rollback.
        batch_sizes: Items per batch by part of the data (other data is the part ``""``); empty while those of the config hold.
        batch_halvings: How often the batch size was halved, and accumulation doubled, after an out-of-memory error.
        epoch: The epoch that the training data starts in, from 0.
        batch: The batch of that epoch that it starts with, from 0.
        no_augment_epochs: Number of epochs at the start in which training items are not augmented.
        total_steps: Optimizer steps of the schedule of a run with a time budget, as planned at its start; 0 without a budget.
        total_epochs: The epochs of that plan; 0 without a budget.
        end_step: The step at which a run with a time budget ends, as planned last; 0 without a budget.
        anchor: The step at which that was planned, and the step of the schedule that it corresponds to.
        seconds_used: Seconds of its time budget that the run has used.
    """

    clock: Clock = field(default_factory=Clock)
    lr_scale: float = 1.0
    batch_sizes: dict[str, int] = field(default_factory=dict)
    batch_halvings: int = 0
    epoch: int = 0
    batch: int = 0
    no_augment_epochs: int = 0
    total_steps: int = 0
    total_epochs: int = 0
    end_step: int = 0
    anchor: tuple[int, float] = (0, 0.0)
    seconds_used: float = 0.0
    finite_check: Callable[[Any, Any], bool] | None = None

    NOT_SAVED = ("clock", "no_augment_epochs", "finite_check")

    def reduce_lr(self, factor: float) -> None:
        """Multiplies all learning rates by `factor` from the next start of the training on."""
        self.lr_scale *= factor

    def resize_batches(self, sizes: Mapping[str, int], halvings: int = 0) -> None:
        """Sets the batch sizes; `halvings` of them because of an out-of-memory error."""
        self.batch_sizes = dict(sizes)
        self.batch_halvings += halvings

    def move_to(self, epoch: int, batch: int) -> None:
        """Makes training data start at `batch` of `epoch`."""
        self.epoch, self.batch = epoch, batch

    def disable_augmentation_for(self, epochs: int) -> None:
        """Leaves training items unchanged in the first `epochs` epochs."""
        self.no_augment_epochs = epochs

    def plan(self, steps: int, epochs: int) -> None:
        """Sets the length of a run with a time budget. Call it before the first step."""
        self.total_steps, self.total_epochs = steps, epochs
        self.anchor, self.end_step = (0, 0.0), steps

    def end_at(self, end: int, step: int) -> None:
        """Moves the end of a run with a time budget: the rest of the schedule is spread over the steps from `step` to `end`."""
        self.anchor, self.end_step = (step, self.planned_step(step)), max(end, step)

    def planned_step(self, step: int) -> float:
        """Returns the step of the schedule that `step` corresponds to; without a time budget, `step`."""
        if not self.total_steps:
            return step
        start, planned = self.anchor
        done = min(1.0, max(0, step - start) / max(1, self.end_step - start))
        return planned + (self.total_steps - planned) * done

    def planned_epoch(self, epoch: int, step: int) -> int:
        """Returns the epoch of the schedule that `epoch`, which starts at `step`, corresponds to."""
        if not self.total_steps:
            return epoch
        return int(self.planned_step(step) * self.total_epochs / self.total_steps + 1e-9)

    def use_seconds(self, seconds: float) -> None:
        """Records the seconds of its time budget that the run has used."""
        self.seconds_used = seconds

    def check_finite_with(self, check: Callable[[Any, Any], bool] | None) -> None:
        """Registers a check of (loss, gradient norm), called before every optimizer step."""
        self.finite_check = check

    def is_finite(self, loss: Any, grad_norm: Any) -> bool:
        """Returns whether a step may be taken with this loss and gradient norm: True unless a registered check fails."""
        return self.finite_check is None or self.finite_check(loss, grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values for a checkpoint."""
        return {name: copy(value) for name, value in vars(self).items() if name not in self.NOT_SAVED}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state`. A learning rate that was reduced since then stays reduced."""
        lr_scale = min(self.lr_scale, state["lr_scale"])
        for name in self.state_dict():
            setattr(self, name, copy(state[name]))
        self.lr_scale, self.anchor = lr_scale, (self.anchor[0], self.anchor[1])

    def __deepcopy__(self, memo: Any) -> RunState:
        """A copied task has a state of its own, without a finite check."""
        other = RunState(self.clock)
        other.load_state_dict(self.state_dict())
        return other
