"""The adaptive search over engines whose values are known."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.credit.adaptive import Trail, Until, adaptive
from app.credit.changepoint import Change
from app.credit.problem import credit_problem
from app.credit.settings import CreditSettings
from app.credit.values import Estimate
from app.tokens import TokenText
from tests.credit.bernoulli import PROBLEM, Bernoulli, decode, ids, judge, right, sampler, trace, verdict, wrong


def credit(samples, engine, shared: bool = True, **parts):
    how = CreditSettings(search="adaptive", **parts)
    return asyncio.run(credit_problem(PROBLEM, samples, sampler(engine), TokenText(decode), how, shared))


def pit_of(found) -> list[int]:
    return [row.step for row in found.values if row.first_pit]


@given(st.integers(1, 12), st.data())
@settings(max_examples=40)
def test_a_certain_fall_is_found(steps: int, data: st.DataObject) -> None:
    fall = data.draw(st.integers(1, steps))
    found = credit([wrong(steps), right(1)], Bernoulli([1] * fall + [0] * (steps - fall)))
    assert pit_of(found) == [fall]
    assert found.counts["rollouts"] <= 8 * max(1, steps - 1)


def test_it_asks_for_far_fewer_rollouts_than_every_step_times_k() -> None:
    found = credit([wrong(33), right(1)], Bernoulli([1] * 20 + [0] * 13))
    assert pit_of(found) == [20] and found.counts["rollouts"] <= 24 < 32 * 8


def test_200_steps() -> None:
    found = credit([wrong(200), right(1)], Bernoulli([1] * 77 + [0] * 123))
    assert pit_of(found) == [77] and found.counts["rollouts"] <= 40


def test_one_step_needs_no_rollout() -> None:
    found = credit([wrong(1), right(1)], Bernoulli([1]))
    assert pit_of(found) == [1] and not found.rollouts


def test_more_confidence_costs_more() -> None:
    engine = [0.6] * 6 + [0.02] * 6
    cost = [
        credit([wrong(12, i) for i in range(4)] + [right(9)], Bernoulli(engine), confidence=c).counts["rollouts"]
        for c in (0.6, 0.9, 0.99)
    ]
    assert cost == sorted(cost) and cost[0] < cost[2]


def test_the_order_of_samples_does_not_matter() -> None:
    samples = [wrong(5, 0), wrong(4, 1), wrong(7, 2), right(3)]
    engine = [0.8, 0.7, 0.6, 0.05, 0.02, 0.02, 0.02]
    assert credit(samples, Bernoulli(engine)) == credit(samples[::-1], Bernoulli(engine))


def test_a_sibling_that_shares_steps_and_ends_right_saves_rollouts() -> None:
    one = wrong(6, 0)
    begin = "".join(f"step {i} of 0\n" for i in range(1, 5))
    sibling = trace(begin + "well\n#### 1", 1)
    engine = [1, 1, 1, 1, 1, 0]
    with_it = credit([one, (sibling, verdict(sibling, "correct"))], Bernoulli(engine))
    without = credit([one, right(1)], Bernoulli(engine))
    assert pit_of(with_it) == pit_of(without) == [5]
    assert with_it.counts["rollouts"] < without.counts["rollouts"]
    by_step = {row.step: row for row in with_it.values}
    assert by_step[4].correct >= 1 and by_step[1].judged >= 1  # the sibling counts at every step it shares


def trail(text: str = "a\nb\nc", name: str = "t-0") -> Trail:
    return Trail(name, tuple(ids(text)), [0, 2, 4, 6], Change(3, 0.5))


def test_what_another_solution_tells() -> None:
    made = trail()
    made.learn("x", 0, ids("a\nb\nd"), True)  # a sample that shares two steps
    assert made.passed == [Estimate(1, 1)] * 3 and made.change.right == {0: [2]}
    made.learn("y", 2, ids("a\nz"), False)  # a rollout after step 1 that leaves at once
    assert made.passed == [Estimate(1, 1), Estimate(1, 2), Estimate(1, 1)] and made.change.wrong == {1: [1]}
    made.learn("z", 4, ids("q\nb\nc"), True)  # a rollout from another beginning
    assert made.passed[1:] == [Estimate(1, 2), Estimate(1, 1)] and made.change.right == {0: [2]}
    made.learn("w", 4, ids("a\nb\nc"), False)  # the very trace again
    assert made.passed[2] == Estimate(1, 2) and made.change.wrong == {1: [1], 2: [2]}


def test_of_itself_a_trace_tells_only_the_value_of_the_problem() -> None:
    made = trail()
    made.learn("t-0", 0, ids("a\nb\nc"), False)
    assert made.passed == [Estimate(0, 1), Estimate(), Estimate()]


def test_prefixes_without_room_are_left_alone() -> None:
    sample = wrong(6)
    room = 2 + sample[0].token_ids.index(ord("3"))  # the prefixes after steps 1 and 2 fit
    engine = Bernoulli([1] * 6, context=room)
    found = credit([sample, right(1)], engine)
    assert not pit_of(found)  # one of four steps, and no way to tell which
    assert found.counts["prefixes_too_long"] == 3
    assert {row.step for row in found.values if row.q is not None} == {0, 1, 2, 6}


def test_rollouts_that_say_nothing_end_with_the_budget() -> None:
    found = credit([wrong(4), right(1)], Bernoulli([1] * 4, finish="length"), rollouts=2)
    assert found.counts["rollouts"] == found.counts["truncated"] == 6
    assert not pit_of(found)


def test_without_samples_of_the_same_kind_the_start_is_rolled_out() -> None:
    found = credit([wrong(4), right(1)], Bernoulli([0.5, 1, 0, 0]), shared=False, rollouts=6)
    assert next(row.judged for row in found.values if row.step == 0) >= 6
    assert pit_of(found) == [2]


def test_traces_of_a_problem_learn_from_each_other() -> None:
    """Four traces with three steps in common: the search of one pays for the others."""
    begin = "one\ntwo\nthree\n"
    traces = [trace(begin + f"{i}\n#### 0", i) for i in range(4)]
    samples = [(t, verdict(t, "incorrect")) for t in traces] + [right(9)]
    together = credit(samples, Bernoulli([1, 1, 0, 0, 0]))
    alone = [credit([pair, right(9)], Bernoulli([1, 1, 0, 0, 0])).counts["rollouts"] for pair in samples[:4]]
    assert pit_of(together) == [2] * 4
    assert together.counts["rollouts"] < sum(alone)


@pytest.mark.parametrize("confidence", [0.7, 0.95])
def test_a_pit_is_named_only_if_it_is_likelier_than_not(confidence: float) -> None:
    made = trail()

    async def nothing(prefix, k):
        return []

    (finding,) = asyncio.run(adaptive([made], [], nothing, Until(confidence, 1, 5)))
    assert finding.first_pit is None and finding.posterior == pytest.approx((1 / 3,) * 3)
    assert made.closed == {1, 2}


def test_a_long_search_draws_more_at_once() -> None:
    made = Trail("t-0", tuple(ids("a\n" * 9 + "b")), [*range(0, 20, 2), 19], Change(10, 0.5))
    until = Until(0.99, 1, 8)
    sizes = []
    while sum(sizes) < 40:
        wanted = made.wanted(until)
        sizes.append(sum(wanted.values()))
        made.spent += sizes[-1]
    assert sizes[:5] == [1, 1, 1, 1, 2] and sizes == sorted(sizes) and len(sizes) <= 14


def test_never_more_than_the_budget() -> None:
    made = Trail("t-0", tuple(ids("a\nb\nc")), [0, 2, 4, 6], Change(3, 0.5))
    made.spent = 15
    assert sum(made.wanted(Until(0.99, 1, 8)).values()) == 1
    made.spent = 16
    assert made.wanted(Until(0.99, 1, 8)) == {}


def test_a_sure_pit_is_tried_until_a_right_way_on_is_known() -> None:
    made = Trail("t-0", tuple(ids("a\nb\nc")), [0, 2, 4, 6], Change(3, 0.5, [0.01, 1.0, 0.01]))
    assert made.wanted(Until(0.7, 1, 8)) == {1: 1}
    assert made.wanted(Until(0.7, 0, 8)) == {}
    made.learn("x", 2, ids("a\nz"), True)
    assert made.wanted(Until(0.7, 1, 8)) == {} and made.wanted(Until(0.7, 2, 8)) == {1: 1}
    made.drawn[1] = 8
    assert made.wanted(Until(0.7, 2, 8)) == {}


@pytest.mark.parametrize("end", [True, False])
def test_empty_steps_and_no_end_token(end: bool) -> None:
    sample = trace("one\n\n\n  \ntwo\n\n#### 0", 0, end=end)
    found = credit([(sample, verdict(sample, "incorrect")), right(1)], Bernoulli([1, 1, 1, 1, 1, 1, 1, 0]))
    assert [row.text for row in found.values] == ["", "one\n\n\n  \n", "two\n\n", "#### 0"]
    assert found.values[-1].end == len(sample.token_ids)


def test_cut_and_unjudged_rollouts_are_no_failures() -> None:
    """Half of the rollouts are cut off; the others all end right until step 3: no value is below 1 before it."""

    class Cuts(Bernoulli):
        async def generate(self, request):
            done = await super().generate(request)
            return done if request.seed % 2 else replace(done, text="no an", finish_reason="length")

    found = credit([wrong(6), right(1)], Cuts([1, 1, 1, 0, 0, 0]), rollouts=8)
    assert pit_of(found) == [3] and found.counts["truncated"] > 0
    assert all(row.q == 1 for row in found.values if row.q is not None and row.step in (1, 2))


def test_equal_texts_are_judged_once() -> None:
    judged: list[str] = []

    def spy(problem, texts, endings):
        judged.extend(texts)
        return judge(problem, texts, endings)

    how = CreditSettings(search="exhaustive", rollouts=8)
    made = asyncio.run(
        credit_problem(
            PROBLEM,
            [wrong(4), right(1)],
            sampler(Bernoulli([1] * 4), judged_by=spy),
            TokenText(decode),
            how,
            True,
        )
    )
    assert len(made.verdicts) == 24 and len(judged) == 3 == len(set(judged))
    assert {v.trace_id for v in made.verdicts} == {t.id for t in made.rollouts}
