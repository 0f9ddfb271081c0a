"""The state of a run: its schedule under a time budget, its checkpoint, and its copies."""

from copy import deepcopy
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.durations import Clock
from foundation.run_state import RunState
from tasks.optim.schedule import lr_factor


def planned(steps: int, epochs: int = 10) -> RunState:
    state = RunState()
    state.plan(steps, epochs)
    return state


def lr(state: RunState, step: int) -> float:
    return lr_factor(state.planned_step(step), state.total_steps, 0, 0.01)


@given(st.integers(20, 200), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 300)), max_size=4))
def test_the_learning_rate_never_rises_and_ends_at_its_minimum(steps: int, changes: list[tuple[int, int]]) -> None:
    state, rates, step = planned(steps), [], 0
    for pause, more in [*changes, (10**6, 0)]:
        stop = min(step + pause, state.end_step)
        rates += [lr(state, s) for s in range(step, stop)]
        step = stop
        if more and step < state.end_step:
            state.end_at(step + more, step)
    assert all(later <= earlier + 1e-9 for earlier, later in zip(rates, rates[1:], strict=False))
    assert lr(state, state.end_step) == pytest.approx(0.01)


def test_without_a_budget_steps_and_epochs_are_those_of_the_trainer() -> None:
    state = RunState()
    assert [state.planned_step(step) for step in range(100)] == list(range(100))
    assert all(isinstance(state.planned_step(step), int) for step in range(3))
    assert state.planned_epoch(7, 70) == 7


def test_an_end_that_never_moves_is_the_plan() -> None:
    state = planned(100)
    assert [state.planned_step(step) for step in range(101)] == pytest.approx(list(range(101)))
    assert [state.planned_epoch(epoch, 10 * epoch) for epoch in range(10)] == list(range(10))


def test_fractions_of_the_run_follow_the_end() -> None:
    """Half of the plan stays half of it: what is left, 5 of 10 epochs, becomes 20."""
    state = planned(100)
    state.end_at(250, 50)
    assert [state.planned_epoch(epoch, 10 * epoch) for epoch in (5, 9, 24)] == [5, 6, 9]


def test_an_earlier_end_is_steeper() -> None:
    state = planned(100)
    full = partial(lr, planned(100))
    state.end_at(70, 40)
    assert lr(state, 40) == pytest.approx(full(40))
    assert lr(state, 55) < full(55)


def test_a_checkpoint_restores_all_but_the_clock() -> None:
    state, clock = planned(100), Clock()
    state.reduce_lr(0.5)
    state.resize_batches({"": 4}, halvings=1)
    state.move_to(3, 7)
    state.end_at(80, 20)
    state.use_seconds(12.5)
    again = RunState(clock)
    again.load_state_dict(state.state_dict())
    assert again.state_dict() == state.state_dict()
    assert again.clock is clock
    assert [again.planned_step(step) for step in range(90)] == [state.planned_step(step) for step in range(90)]
    again.resize_batches({"": 2}, halvings=1)
    assert (state.batch_sizes, again.batch_halvings) == ({"": 4}, 2)


def test_a_rollback_does_not_raise_the_learning_rate() -> None:
    state = RunState()
    saved = state.state_dict()
    state.reduce_lr(0.5)
    state.load_state_dict(saved)
    assert state.lr_scale == 0.5


def test_a_copy_has_no_finite_check() -> None:
    state = RunState()
    assert state.is_finite(1.0, 1.0)
    state.check_finite_with(lambda loss, norm: False)
    assert not state.is_finite(1.0, 1.0)
    assert deepcopy(state).is_finite(1.0, 1.0)
    assert deepcopy(state).clock is state.clock
