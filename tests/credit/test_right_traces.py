"""Right traces, written sums, and the rollout policy that takes the best of K."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.problem import Credit, credit_problem
from app.credit.rows import evidence
from app.credit.settings import CreditSettings
from app.credit.steps import Step
from app.credit.values import FAILED, SOLVED, Estimate, best_of, fall
from app.tokens import TokenText
from tests.credit.bernoulli import PROBLEM, Bernoulli, decode, sampler, trace, verdict, wrong

COUNTS = st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def solved(lines: int, sample: int = 1):
    made = trace("".join(f"good {i} of {sample}\n" for i in range(1, lines)) + "#### 1", sample)
    return made, verdict(made, "correct")


def credit(samples, q, **settings) -> Credit:
    how = CreditSettings.model_validate({"search": "exhaustive", "rollouts": 8, **settings})
    engine = Bernoulli(q)
    return asyncio.run(credit_problem(PROBLEM, samples, sampler(engine), TokenText(decode), how, True))


# -- right traces -----------------------------------------------------------------------------------------------------


def test_right_traces_are_looked_at_only_where_asked_for() -> None:
    samples = [wrong(3), solved(3), solved(4, 2)]
    without = credit(samples, [1, 1, 1, 1])
    assert {row.trace_id for row in without.values} == {"t-0"} and "right_traces" not in without.counts
    found = credit(samples, [1, 1, 1, 1], correct_traces=1)
    assert {row.trace_id: row.right for row in found.values} == {"t-0": False, "t-1": True}
    assert found.counts["right_traces"] == 1 and found.counts["traces"] == 1


def test_a_right_trace_has_every_value_and_ends_with_certainty() -> None:
    found = credit([wrong(3), solved(4)], [0.5, 0.5, 0.5, 0.5], correct_traces=1)
    mine = [row for row in found.values if row.right]
    assert [row.step for row in mine] == [0, 1, 2, 3, 4]
    assert all(row.judged == 8 and row.low <= row.q <= row.high for row in mine[1:-1])
    assert (mine[-1].q, mine[-1].low, mine[-1].high, mine[-1].hard) == (1.0, 1.0, 1.0, True)
    assert not any(row.first_pit for row in mine)


def test_a_sharp_drop_that_recovers_is_lucky_wrong() -> None:
    samples = [wrong(6), *(solved(6, n) for n in range(1, 9))]  # V is 8 of 9
    found = credit(samples, [1, 1, 0, 1, 1, 1], correct_traces=1)
    notes = {row.step: row.note for row in found.values if row.right and row.note}
    assert notes == {2: "sharp_drop"}
    assert found.counts["lucky_wrong"] == 1 and found.counts["no_progress_steps"] == 0


def test_steps_that_bring_nothing_are_marked() -> None:
    found = credit([wrong(5), solved(5)], [0.5, 0, 0, 1, 1], correct_traces=1)
    notes = {row.step: row.note for row in found.values if row.right}
    assert notes == {0: "", 1: "no_progress", 2: "no_progress", 3: "", 4: "", 5: ""}
    assert found.counts["no_progress_steps"] == 2 and found.counts["lucky_wrong"] == 0


def test_wrong_traces_get_no_notes() -> None:
    assert {row.note for row in credit([wrong(5), solved(5)], [1, 1, 0, 0, 0]).values} == {""}


def test_right_and_wrong_traces_share_rollouts() -> None:
    one, two = trace("same\nb\n#### 0", 0), trace("same\nc\n#### 1", 1)
    samples = [(one, verdict(one, "incorrect")), (two, verdict(two, "correct"))]
    found = credit(samples, [1, 1, 1], correct_traces=1, rollouts=3)
    assert found.counts["rollouts"] == 9  # after "same", after b, after c


# -- a fall for certain -----------------------------------------------------------------------------------------------


@given(COUNTS, COUNTS)
def test_a_fall_is_one_way(before: tuple[int, int], after: tuple[int, int]) -> None:
    a, b = Estimate(*before), Estimate(*after)
    assert not (fall(a, b) and fall(b, a))
    if fall(a, b):
        assert a.q > b.q


def test_falls_by_hand() -> None:
    assert fall(Estimate(8, 8), Estimate(0, 8)) and fall(Estimate(8, 8), Estimate(3, 8))
    assert not fall(Estimate(8, 8), Estimate(7, 8)) and not fall(Estimate(1, 1), Estimate(0, 1))
    assert not fall(Estimate(), FAILED) and not fall(SOLVED, Estimate())


# -- best of K --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 12))
def test_best_of_is_a_chance_that_rises_with_q_and_k(a: float, b: float, k: int) -> None:
    low, high = sorted((a, b))
    assert 0 <= best_of(low, k) <= best_of(high, k) <= 1
    assert best_of(a, k) <= best_of(a, k + 1) + 1e-12 and best_of(a, 1) == a


@pytest.mark.parametrize("search", ["exhaustive", "binary", "adaptive"])
def test_rows_of_the_best_of_five(search: str) -> None:
    samples, q = [wrong(5), solved(3)], [1, 0.7, 0.5, 0.2, 0.1]
    plain = credit(samples, q, search=search).values
    best = credit(samples, q, search=search, best_of=5).values
    assert [(r.correct, r.judged, r.first_pit) for r in plain] == [(r.correct, r.judged, r.first_pit) for r in best]
    for one, five in zip(plain, best, strict=True):
        assert (one.q is None) == (five.q is None)
        if one.q is not None:
            assert five.q == pytest.approx(1 - (1 - one.q) ** 5)
            assert five.low <= five.q <= five.high


# -- sums -------------------------------------------------------------------------------------------------------------

SUMS = "3 + 4 = 7\n7 * 2 = 15\n15 - 5 = 11\n#### 11"


def with_sums():
    made = trace(SUMS, 0)
    return made, verdict(made, "incorrect")


def pit(found: Credit) -> list[int]:
    return [row.step for row in found.values if row.first_pit]


def test_a_wrong_sum_is_evidence_and_reported_apart() -> None:
    samples = [with_sums(), solved(3)]
    found = credit(samples, [1, 1, 1, 1], search="adaptive", continuations=0)
    assert pit(found) == [2] and not found.rollouts
    assert [(row.sums, row.wrong_sums) for row in found.values] == [(0, 0), (1, 0), (1, 1), (1, 1), (0, 0)]
    assert found.counts["wrong_sum_traces"] == found.counts["pits_at_wrong_sum"] == found.counts["pits"] == 1
    assert found.counts["pits_by_rollouts"] == 0  # nothing was rolled out
    blind = credit(samples, [1, 1, 1, 1], search="adaptive", sums=False)
    assert pit(blind) == [4] and blind.counts["pits_by_rollouts"] == 1  # the engine never fails before the end
    assert blind.counts["pits_moved_by_sums"] == 0 and blind.counts["pits_at_wrong_sum"] == 0


def test_rollouts_overrule_a_sum_that_is_made_up_for() -> None:
    found = credit([with_sums(), solved(3)], [1, 1, 1, 0], search="adaptive", confidence=0.97)
    assert pit(found) == [3]


def test_the_first_wrong_sum_weighs() -> None:
    steps = [Step(0, 1, text) for text in SUMS.split("\n")]
    assert evidence(steps, 10.0) == [1.0, 10.0, 1.0, 1.0]
    assert evidence(steps[:1], 10.0) is None


def test_a_pit_is_not_named_without_a_right_continuation_while_there_is_budget() -> None:
    found = credit([with_sums(), solved(3)], [1, 1, 1, 1], search="adaptive", continuations=2)
    before = next(row for row in found.values if row.step == 1)
    assert pit(found) == [2] and before.correct == 2 and found.counts["rollouts"] == 2
