"""A schedule whose end moves on the way."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tasks.optim.recipe import schedule
from tasks.optim.schedule import Pace


def paced(steps: int, epochs: int = 10) -> Pace:
    pace = Pace()
    pace.steps, pace.epochs = steps, epochs
    return pace


@given(st.integers(20, 200), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 300)), max_size=4))
def test_the_rate_never_jumps_up_and_ends_at_its_floor(steps: int, turns: list[tuple[int, int]]) -> None:
    """Whatever is planned anew, and when: after the warm-up it only falls, to the floor at the last end."""
    pace, rates, step, end = paced(steps), [], 0, steps
    for wait, more in [*turns, (10**6, 0)]:
        stop = min(step + wait, end)
        rates += [schedule(s, steps, 0, 0.01, place=pace.place) for s in range(step, stop)]
        step = stop
        if more and step < end:
            end = step + more
            pace.end_at(end, step)
    assert all(later <= earlier + 1e-9 for earlier, later in zip(rates, rates[1:], strict=False))
    assert abs(schedule(end, steps, 0, 0.01, place=pace.place) - 0.01) < 1e-9


def test_without_a_new_plan_every_step_stands_for_itself() -> None:
    pace = paced(100)
    assert [pace.place(step) for step in range(100)] == list(range(100))
    assert pace.epoch(7, 70) == 7


def test_freezing_follows_the_first_plan() -> None:
    """Half of the plan stays half of the plan: what was left, 5 of 10 epochs, becomes 20 of them."""
    pace = paced(100)
    pace.end_at(250, 50)
    assert [pace.epoch(epoch, 10 * epoch) for epoch in (5, 9, 24)] == [5, 6, 9]


def test_a_run_that_goes_back_finds_the_pace_it_had() -> None:
    pace = paced(100)
    pace.end_at(80, 20)
    before = [pace.place(step) for step in range(40)]
    pace.end_at(60, 40)
    assert [pace.place(step) for step in range(40)] == before
    again = Pace()
    again.take_up(pace.state())
    assert [again.place(step) for step in range(90)] == [pace.place(step) for step in range(90)]


def test_a_shorter_end_is_steeper() -> None:
    rate = partial(schedule, steps=100, warmup=0, floor=0.0)
    pace = paced(100)
    pace.end_at(70, 40)
    assert rate(40, place=pace.place) == rate(40)
    assert rate(55, place=pace.place) < rate(55)
