"""Definitions of values, intervals and pits."""

from __future__ import annotations

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.values import Estimate, advantages, dead_pit, estimate, lowest_pit
from tests.credit.bernoulli import trace, verdict

SHARES = st.integers(1, 12).map(lambda n: n / 12) | st.just(0.0)
VALUES = st.lists(SHARES, min_size=1, max_size=12).map(lambda qs: dict(enumerate(qs)))
SPARSE = st.dictionaries(st.integers(0, 12), SHARES, max_size=12)


def test_an_exact_value_has_no_width() -> None:
    assert Estimate(0, 1, exact=True).interval == (0.0, 0.0)
    assert Estimate().interval == (0.0, 1.0) and Estimate().q is None


@pytest.mark.parametrize(
    ("finish", "outcome", "counted"),
    [
        ("stop", "correct", (1, 1)),
        ("stop", "incorrect", (0, 1)),
        ("stop", "unparsed", (0, 1)),
        ("stop", "timeout", (0, 0)),
        ("stop", "error", (0, 0)),
        ("length", "unparsed", (0, 0)),
        ("length", "correct", (0, 0)),
        ("abort", "incorrect", (0, 0)),
    ],
)
def test_what_counts(finish: str, outcome: str, counted: tuple[int, int]) -> None:
    rollout = trace("x", finish=finish)
    assert estimate([(rollout, verdict(rollout, outcome))]) == Estimate(*counted)


@given(SPARSE)
def test_advantages_sum_to_the_difference(values: dict[int, float]) -> None:
    gains = advantages(values)
    assert set(gains) == {s for s in values if s >= 1 and s - 1 in values}
    for step, gain in gains.items():
        assert gain == pytest.approx(values[step] - values[step - 1])


@given(SPARSE)
def test_lowest_pit_is_the_first_of_the_lowest_and_a_fall(values: dict[int, float]) -> None:
    pit = lowest_pit(values)
    later = {s: q for s, q in values.items() if s >= 1}
    if pit is None:
        lowest = min(sorted(later), key=later.__getitem__, default=0)
        assert not later or 0 not in values or later[lowest] >= values[0] or lowest - 1 not in values
    else:
        assert values[pit] == min(later.values()) < values[0]
        assert all(values[s] > values[pit] for s in later if s < pit)


@given(VALUES)
def test_dead_pit_is_the_first_dead_step(values: dict[int, float]) -> None:
    pit = dead_pit(values)
    if pit is None:
        assert values[0] == 0 or all(values.values())
    else:
        assert values[pit] == 0 and all(values[s] > 0 for s in range(pit))


@given(VALUES)
def test_both_definitions_agree_where_the_lowest_value_is_zero(values: dict[int, float]) -> None:
    values = {**values, len(values): 0.0}
    assert lowest_pit(values) == dead_pit(values) or values[0] == 0


def test_dead_pit_needs_the_step_before() -> None:
    assert dead_pit({0: 0.5, 3: 0.0}) is None
    assert dead_pit({0: 0.5, 2: 0.5, 3: 0.0, 5: 0.0}) == 3


def test_no_values_no_pit() -> None:
    assert lowest_pit({}) is None and dead_pit({}) is None and lowest_pit({0: 0.5}) is None


@pytest.mark.parametrize("k", [4, 8, 16])
def test_intervals_cover_the_true_value_of_simulated_prefixes(k: int) -> None:
    """Exact coverage, averaged over values spread evenly: close to 95% at every number of rollouts."""
    grid = [i / 200 for i in range(1, 200)]
    intervals = [Estimate(c, k).interval for c in range(k + 1)]
    covered = []
    for q in grid:
        inside = [c for c, (low, high) in enumerate(intervals) if low <= q <= high]
        covered.append(sum(comb(k, c) * q**c * (1 - q) ** (k - c) for c in inside))
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.02) and min(covered) > 0.8


def test_intervals_cover_simulated_bernoulli_traces() -> None:
    rng = random.Random(0)
    inside = 0
    for _ in range(4000):
        q, k = rng.random(), rng.choice([4, 8, 16])
        low, high = Estimate(sum(rng.random() < q for _ in range(k)), k).interval
        inside += low <= q <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.015)
