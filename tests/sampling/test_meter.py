"""Engine time is shared by the requests in the engine, and no second is counted twice."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sampling.meter import WINDOW, Meter


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_one_request_is_charged_its_own_time_only() -> None:
    clock = Clock()
    meter = Meter(clock)
    clock.time = 5.0
    with meter.request() as span:
        clock.time = 7.0
    clock.time = 9.0
    assert span.seconds == 2.0
    assert meter.busy == 2.0


def test_two_requests_share_the_time_in_which_both_are_there() -> None:
    clock = Clock()
    meter = Meter(clock)
    with meter.request() as first:
        clock.time = 1.0
        with meter.request() as second:
            clock.time = 3.0
        clock.time = 4.0
    assert first.seconds == 1 + 1 + 1
    assert second.seconds == 1
    assert meter.busy == 4


def test_aborted_requests_are_charged_and_told_once() -> None:
    clock = Clock()
    meter = Meter(clock)
    with pytest.raises(ValueError, match="aborted"), meter.request():
        clock.time = 2.0
        raise ValueError("aborted")
    assert (meter.take_aborted(), meter.take_aborted(), meter.busy, meter.active) == (2.0, 0.0, 2.0, 0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 10.0)), max_size=30))
def test_charges_add_up_to_the_busy_time(events: list[tuple[bool, float]]) -> None:
    clock = Clock()
    meter = Meter(clock)
    stacks, spans = [], []
    for arrives, pause in events:
        clock.time += pause
        if arrives or not stacks:
            stacks.append(stack := ExitStack())
            spans.append(stack.enter_context(meter.request()))
        else:
            stacks.pop(0).close()
    for stack in stacks:
        stack.close()
    assert sum(span.seconds for span in spans) == pytest.approx(meter.busy)
    assert meter.busy <= clock.time + 1e-9
    assert meter.active == 0


def test_windows_hold_what_happened_in_them() -> None:
    clock = Clock()
    meter = Meter(clock, epoch=1000 * WINDOW + 4)  # 4 s into a window
    with meter.request():
        clock.time = 2.0
        with meter.request():
            clock.time = 9.0  # 3 s into the next window
    meter.wrote(11)
    clock.time = 3 * WINDOW  # idle
    [(first, one), (second, two)] = meter.take_windows()
    assert (first, second) == (1000 * WINDOW, 1001 * WINDOW)
    assert (one.busy, one.requests, one.tokens) == (6, 2 + 2 * 4, 0)
    assert (two.busy, two.requests, two.tokens) == (3, 2 * 3, 11)
    assert meter.take_windows() == []


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.0, 40.0)), max_size=30),
    st.floats(0, 2e9),
)
def test_windows_add_up_to_the_busy_time_however_they_are_taken(
    events: list[tuple[bool, bool, float]], epoch: float
) -> None:
    clock = Clock()
    meter = Meter(clock, epoch)
    stacks, taken, expected = [], [], 0.0
    for arrives, take, pause in events:
        clock.time += pause
        expected += len(stacks) * pause
        if arrives or not stacks:
            stacks.append(stack := ExitStack())
            stack.enter_context(meter.request())
        else:
            stacks.pop(0).close()
        if take:
            taken += meter.take_windows()
    expected_busy = meter.busy
    taken += meter.take_windows()
    assert sum(window.busy for _, window in taken) == pytest.approx(expected_busy, abs=1e-3)
    assert sum(window.requests for _, window in taken) == pytest.approx(expected, abs=1e-3)
    assert all(begin % WINDOW == 0 for begin, _ in taken)
    assert all(window.busy <= WINDOW + 1e-3 for _, window in taken)
    assert all(begin <= epoch + clock.time for begin, _ in taken)
