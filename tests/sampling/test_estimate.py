"""Scaling a pilot up."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sampling.estimate import Pilot, estimate, spread


def test_a_pilot_is_scaled_by_problems() -> None:
    pilot = Pilot(tokens=[100, 300], traces=8, accepted=5, engine_seconds=2.0)
    found = estimate(pilot, 20)
    assert (found.tokens, found.traces, found.accepted, found.seconds) == (4000, 80, 50, 20.0)
    assert pilot.tokens_each == 80
    error = 2 * 20000**0.5 / 2**0.5  # of the mean; variance of (100, 300) is 20,000
    assert (found.low, found.high) == (max(0.0, (200 - error) * 20), (200 + error) * 20)


def test_one_problem_tells_nothing_of_the_spread_and_no_accepted_trace_nothing_of_its_cost() -> None:
    pilot = Pilot(tokens=[100], traces=4, accepted=0, engine_seconds=1.0)
    found = estimate(pilot, 3)
    assert (found.low, found.tokens, found.high) == (0.0, 300, float("inf"))
    assert pilot.tokens_each is None


def test_the_bounds_hold_the_truth_about_as_often_as_two_standard_errors_should() -> None:
    rng = random.Random(0)
    truth = [round(rng.lognormvariate(5, 0.5)) for _ in range(2000)]
    inside = 0
    for _ in range(500):
        found = estimate(Pilot(rng.sample(truth, 24), 24, 1, 1.0), len(truth))
        inside += found.low <= sum(truth) <= found.high
    assert 0.88 <= inside / 500 <= 0.99


@given(count=st.integers(1, 50), of=st.integers(1, 500))
def test_pilot_problems_are_distinct_and_spread_over_the_split(count: int, of: int) -> None:
    places = spread(count, of)
    assert len(set(places)) == len(places) == min(count, of)
    assert places == sorted(places) and places[0] >= 0 and places[-1] < of
    gaps = [b - a for a, b in pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("problems", [1, 7, 1000])
def test_a_pilot_of_everything_is_exact(problems: int) -> None:
    tokens = [n % 13 for n in range(problems)]
    assert estimate(Pilot(tokens, problems, 1, 1.0), problems).tokens == pytest.approx(sum(tokens))
