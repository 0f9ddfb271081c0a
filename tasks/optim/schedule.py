"""How far a run is with its plan, where the plan may come to more or fewer steps on the way."""

from __future__ import annotations

from typing import Any


class Pace:
    """Schedules and freezing follow the plan that was made first; what is left of it is spread over the steps that are left.

    So a rate that falls goes on falling from where it is, faster or slower, and ends at its floor.

    Attributes:
        steps: Steps of the first plan; 0 where there is none, and every step stands for itself.
        epochs: Its epochs.
        turns: Steps at which the plan was made anew, with the step of the first plan that each stood for, and the step at which all ends.
    """

    def __init__(self) -> None:
        self.steps, self.epochs = 0, 0
        self.turns: list[tuple[int, float, int]] = []

    def place(self, step: int) -> float:
        """The step of the first plan that `step` stands for."""
        for at, there, end in reversed(self.turns):
            if step >= at:
                return there + (self.steps - there) * min(1.0, (step - at) / (end - at))
        return step

    def epoch(self, epoch: int, step: int) -> int:
        """The epoch of the first plan that `epoch` stands for, which begins at `step`."""
        return epoch if not self.turns else int(self.place(step) * self.epochs / self.steps + 1e-9)

    def end_at(self, end: int, step: int) -> None:
        """From `step` on, spread what is left of the plan so that it ends at step `end`."""
        self.turns = [turn for turn in self.turns if turn[0] < step]  # a run may have gone back
        self.turns.append((step, self.place(step), max(end, step + 1)))

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"steps": self.steps, "epochs": self.epochs, "turns": [list(turn) for turn in self.turns]}

    def take_up(self, state: dict[str, Any]) -> None:
        """As it was when `state` was written."""
        self.steps, self.epochs = state["steps"], state["epochs"]
        self.turns = [(at, there, end) for at, there, end in state["turns"]]
