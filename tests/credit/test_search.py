"""Searches on callbacks whose values are known exactly."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.search import SEARCHES, Finding, binary, exhaustive, sequential
from app.credit.settings import PITS, CreditSettings
from app.credit.values import Estimate
from app.records import Trace, Verdict
from tests.credit.bernoulli import trace, verdict


class Exact:
    """Rollouts whose share of right ones is as near to q[step] as k allows. `asked` counts them by step."""

    def __init__(self, q: list[float], finish: str = "stop", outcome: str | None = None) -> None:
        self.q, self.finish, self.outcome = q, finish, outcome
        self.asked: dict[int, int] = {}

    async def __call__(self, step: int, k: int) -> list[tuple[Trace, Verdict]]:
        self.asked[step] = max(k, self.asked.get(step, 0))
        made = [trace("x", i, self.finish) for i in range(k)]
        right = math.ceil(self.q[step] * k)
        return [(t, verdict(t, self.outcome or ("correct" if t.sample < right else "incorrect"))) for t in made]


def find(search, q: list[float], k: int = 4, start: Estimate | None = None, **how) -> tuple[Finding, Exact]:
    """`q` has a value for step 0 and each step but the last, which is 0 by definition."""
    rollouts = Exact(q, **how)
    return asyncio.run(search(len(q), rollouts, k, start or Estimate())), rollouts


MONOTONE = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda t: [0.75] * t[0] + [0.0] * (t[1] - 1))


@given(MONOTONE)
def test_all_searches_find_the_one_fall(q: list[float]) -> None:
    fall = q.index(0.0) if 0.0 in q else len(q)
    for search in SEARCHES.values():
        finding, _ = find(search, q)
        assert finding.first_pit == fall
        assert finding.values[fall].correct == 0 < finding.values[fall - 1].correct


@given(MONOTONE)
def test_binary_asks_for_a_logarithm_of_steps(q: list[float]) -> None:
    _, rollouts = find(binary, q, start=Estimate(3, 4))
    assert len(rollouts.asked) <= math.ceil(math.log2(len(q))) if len(q) > 1 else not rollouts.asked


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12))
def test_exhaustive_knows_every_step(q: list[float]) -> None:
    finding, rollouts = find(exhaustive, q)
    assert set(finding.values) == set(range(len(q) + 1)) and set(rollouts.asked) == set(range(len(q)))
    shares = [finding.values[s].q for s in range(len(q) + 1)]
    assert shares == [*q, 0.0]
    lowest = shares.index(0.0, 1)
    assert finding.first_pit == (lowest if q[0] > 0 else None)


@given(st.lists(st.sampled_from([0.0, 0.5]), min_size=1, max_size=30))
def test_binary_finds_a_fall_even_where_values_rise_again(q: list[float]) -> None:
    finding, _ = find(binary, q)
    if q[0] == 0:
        assert finding.first_pit is None
    else:
        pit = finding.first_pit
        assert pit is not None and finding.values[pit].correct == 0 < finding.values[pit - 1].correct


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12))
def test_the_lowest_value_and_zero_of_k_name_the_same_step(q: list[float]) -> None:
    """The last step is worth 0. Also where values rise again; and a sequential search asks for nothing behind."""
    shares = [*q, 0.0]
    first = shares.index(0.0, 1) if q[0] > 0 else None
    everywhere, _ = find(exhaustive, q)
    in_turn, rollouts = find(sequential, q)
    assert everywhere.first_pit == in_turn.first_pit == first
    assert max(rollouts.asked) <= (first or 0)
    assert in_turn.values == {s: v for s, v in everywhere.values.items() if s <= (first or 0) or s == len(q)}


@pytest.mark.parametrize("search", ["adaptive", *SEARCHES])
@pytest.mark.parametrize("pit", PITS)
def test_a_rule_without_the_values_it_needs_is_refused(search: str, pit: str) -> None:
    if search in PITS[pit][0]:
        assert CreditSettings.model_validate({"search": search, "pit": pit}).pit == pit
    else:
        with pytest.raises(ValueError, match=rf"pit: {pit} .*; give search: .*\(now {search}\)"):
            CreditSettings.model_validate({"search": search, "pit": pit})


@pytest.mark.parametrize("search", SEARCHES.values())
def test_plain_samples_stand_for_step_0(search) -> None:
    finding, rollouts = find(search, [0.5, 0.5, 0.0], start=Estimate(5, 9))
    assert 0 not in rollouts.asked and finding.values[0] == Estimate(5, 9) and finding.first_pit == 2


@pytest.mark.parametrize("search", SEARCHES.values())
def test_one_step_needs_no_rollouts_but_of_the_start(search) -> None:
    finding, rollouts = find(search, [0.5], start=Estimate(1, 2))
    assert finding.first_pit == 1 and not rollouts.asked


@pytest.mark.parametrize("search", SEARCHES.values())
@pytest.mark.parametrize(("finish", "outcome"), [("length", "unparsed"), ("stop", "timeout"), ("stop", "error")])
def test_what_cannot_be_judged_is_unknown_not_wrong(search, finish: str, outcome: str) -> None:
    finding, _ = find(search, [0.5] * 6, start=Estimate(1, 2), finish=finish, outcome=outcome)
    assert set(finding.values) == {0, 6} and finding.first_pit is None


def test_200_steps() -> None:
    for search in SEARCHES.values():
        assert find(search, [1.0] * 137 + [0.0] * 63)[0].first_pit == 137
