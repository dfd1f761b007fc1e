"""Quotas: what is kept, what is aborted, and that neither latency nor eagerness changes the former."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.records import Problem, Trace, Verdict
from app.sampling.engine import Completion, EngineDead, Request
from app.sampling.requests import sample_n
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import SamplingSettings, Stopping
from app.sampling.stopping import Search, Tally, sample_to_quotas


def problem(number: int = 0) -> Problem:
    return Problem(f"p-{number}", "How many?", "1", "train", "test")


def coin(success: float, kinds: int = 10**6) -> Callable[[Request], Completion]:
    """A script that is right with probability `success`, in one of `kinds` ways."""

    def script(request: Request) -> Completion:
        rng = random.Random(request.seed)
        right = rng.random() < success
        return Completion((rng.randrange(kinds), *[7] * rng.randrange(30)), "1" if right else "0", "stop")

    return script


async def judge(asked: Problem, trace: Trace) -> Verdict:
    return Verdict(trace.id, "correct" if trace.text == asked.answer else "incorrect", trace.text, "r", "t", 0.0)


def plan(samples: int = 32, **stopping: object) -> SamplingSettings:
    return SamplingSettings(samples=samples, max_tokens=50, stopping=Stopping(**stopping))


def search(engine: ScriptedEngine, wanted: SamplingSettings, number: int = 0, ahead: float = 0.5) -> Search:
    return Search(engine, problem(number), [1, 2], wanted, 0, "pol", judge, ahead)


def run(engine: ScriptedEngine, wanted: SamplingSettings, ahead: float = 0.5) -> Search:
    found = search(engine, wanted, ahead=ahead)
    asyncio.run(found.run(wanted.samples))
    return found


def reference(success: float, wanted: SamplingSettings) -> list[str]:
    """Ids that the rule keeps, from all samples drawn beforehand."""
    assert wanted.stopping
    pairs = asyncio.run(sample_n(ScriptedEngine(coin(success)), problem(), [1, 2], wanted, 0, "pol"))
    right: set[tuple[int, ...]] = set()
    wrong: set[tuple[int, ...]] = set()
    for count, (trace, _) in enumerate(pairs, 1):
        (right if trace.text == "1" else wrong).add(tuple(trace.token_ids))
        if len(right) >= wanted.stopping.correct and len(wrong) >= wanted.stopping.incorrect:
            return [t.id for t, _ in pairs[:count]]
    return [t.id for t, _ in pairs]


@settings(max_examples=40, deadline=None)
@given(
    success=st.floats(0.0, 1.0),
    correct=st.integers(0, 4),
    incorrect=st.integers(1, 3),
    ahead=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 100),
)
def test_the_kept_samples_are_the_shortest_prefix_that_meets_the_quotas(
    success: float, correct: int, incorrect: int, ahead: float, seed: int
) -> None:
    wanted = plan(16, correct=correct, incorrect=incorrect)
    engine = ScriptedEngine(coin(success), latency=lambda r: random.Random(r.seed + seed).random() / 1000, slots=5)
    found = run(engine, wanted, ahead)
    assert [trace.id for trace, _, _ in found.kept] == reference(success, wanted)
    assert len(engine.requests) == len(found.kept) + found.surplus


def test_asking_for_the_fewest_wastes_nothing() -> None:
    engine = ScriptedEngine(coin(0.3), latency=lambda r: r.seed % 5 / 1000)
    found = run(engine, plan(correct=3, incorrect=2), ahead=0.0)
    assert found.tally.met
    assert (found.surplus, engine.aborted) == (0, [])


def test_surplus_requests_are_aborted_in_the_engine() -> None:
    def latency(request: Request) -> float:
        return 0.0 if len(engine.requests) <= 2 else 60.0

    engine = ScriptedEngine(coin(1.0), latency=latency)
    wanted = plan(correct=2)
    found = search(engine, wanted, ahead=1.0)
    found.tally.right, found.tally.judged = 0, 8  # looks hard, so that many are asked for
    asyncio.run(found.run(32))
    assert len(found.kept) == 2
    assert found.surplus == len(engine.aborted) == len(engine.requests) - 2 > 0
    assert engine.active == 0


def test_the_budget_ends_a_hopeless_problem() -> None:
    found = run(ScriptedEngine(coin(0.0)), plan(8, correct=1))
    assert (len(found.kept), found.tally.met) == (8, False)


def test_repeated_and_cut_traces_fill_no_quota() -> None:
    same = run(ScriptedEngine(lambda r: Completion((4, 2), "1", "stop")), plan(6, correct=2))
    assert (len(same.kept), same.tally.met) == (6, False)
    cut = run(ScriptedEngine(lambda r: Completion((r.seed,), "1", "length")), plan(6, correct=1))
    assert (len(cut.kept), cut.tally.met) == (6, False)


def test_a_verdict_that_says_nothing_counts_for_nothing() -> None:
    tally = Tally(Stopping(correct=1, incorrect=1))
    trace = Trace("t", "p", 0, 0, "pol", [1], [2], "", "stop")
    tally.add(trace, Verdict("t", "timeout", None, "r", "t", 0.0))
    assert (tally.seen, tally.judged, tally.missing_correct, tally.missing_incorrect) == (1, 0, 1, 1)
    tally.add(trace, Verdict("t", "unparsed", None, "r", "t", 0.0))
    assert (tally.judged, tally.missing_incorrect) == (1, 0)


def test_proportional_quotas_follow_the_fail_rate_of_the_pilot() -> None:
    def quota(right: int) -> int:
        tally = Tally(Stopping(correct=8, budget="proportional", pilot=4))
        for number in range(4):
            trace = Trace("t", "p", number, 0, "pol", [1], [number], "", "stop")
            tally.add(trace, Verdict("t", "correct" if number < right else "incorrect", "", "r", "t", 0.0))
        return tally.quota

    assert [quota(right) for right in range(5)] == [8, 6, 4, 2, 1]


def test_a_proportional_search_draws_its_pilot_first() -> None:
    easy = run(ScriptedEngine(coin(1.0)), plan(correct=4, budget="proportional", pilot=6))
    assert (len(easy.kept), easy.tally.quota) == (6, 1)


def test_verifying_holds_no_place_in_the_engine() -> None:
    """With one slot and verdicts that wait until all samples are written, only overlap can finish."""
    engine = ScriptedEngine(coin(1.0), latency=lambda r: 0.0001, slots=1)
    wanted = plan(4, correct=4)

    async def slow(asked: Problem, trace: Trace) -> Verdict:
        while engine.served < 4:
            await asyncio.sleep(0.0005)
        return await judge(asked, trace)

    found = Search(engine, problem(), [1], wanted, 0, "pol", slow)
    asyncio.run(asyncio.wait_for(found.run(4), 20))
    assert found.tally.met


def test_what_easy_problems_leave_goes_to_hard_ones() -> None:
    wanted = plan(8, correct=2, most=20)

    def script(request: Request) -> Completion:
        return coin(1.0 if request.prompt_token_ids == (1,) else 0.0)(request)

    async def both() -> tuple[Search, Search, Search]:
        engine = ScriptedEngine(script)
        found = [Search(engine, problem(n), [1 if n == 0 else 2], wanted, 0, "pol", judge, 0.0) for n in range(3)]
        await sample_to_quotas(found, wanted.samples, 20)
        return found[0], found[1], found[2]

    easy, hard, harder = asyncio.run(both())
    assert len(easy.kept) == 2
    assert len(hard.kept) == len(harder.kept) == 8 + 6 // 2
    assert [t.sample for t, _, _ in hard.kept] == list(range(11))


def test_failures_pass_through_and_leave_nothing_under_way() -> None:
    engine = ScriptedEngine(coin(0.0), latency=lambda r: 0.001, dies_after=3)
    with pytest.raises(EngineDead):
        run(engine, plan(correct=4))
    assert engine.active == 0


def test_a_prompt_that_is_too_long_is_skipped_alone() -> None:
    async def both() -> list[Search]:
        wanted = plan(samples=4, correct=1, most=9)
        prompts = [[1, 2, 3], [1]]
        engine = ScriptedEngine(coin(0.0), context_length=3)
        found = [Search(engine, problem(n), ids, wanted, 0, "pol", judge) for n, ids in enumerate(prompts)]
        await sample_to_quotas(found, 4, 9)
        return found

    long, short = asyncio.run(both())
    assert long.too_long and not long.kept
    assert not short.too_long and len(short.kept) == 4  # what the other did not draw was never its own to spare


def test_mixed_difficulty_reaches_the_same_quotas_with_fewer_tokens() -> None:
    rates = {n: 0.05 + 0.9 * n / 39 for n in range(40)}
    wanted = plan(32, correct=4, incorrect=2)

    def script(request: Request) -> Completion:
        return coin(rates[request.prompt_token_ids[0]])(request)

    async def until() -> tuple[int, int]:
        engine = ScriptedEngine(script, latency=lambda r: 0.0005 + r.seed % 10 / 10_000, slots=64)
        found = [Search(engine, problem(n), [n], wanted, 0, "pol", judge) for n in rates]
        await sample_to_quotas(found, 32, 32)
        return engine.tokens, sum(s.tally.met for s in found)

    async def plain() -> tuple[int, int]:
        engine, met = ScriptedEngine(script), 0
        for n in rates:
            tally = Tally(Stopping(correct=4, incorrect=2))
            for trace, _ in await sample_n(engine, problem(n), [n], wanted, 0, "pol"):
                tally.add(trace, await judge(problem(n), trace))
            met += tally.met
        return engine.tokens, met

    (tokens, met), (plain_tokens, plain_met) = asyncio.run(until()), asyncio.run(plain())
    assert met == plain_met > 30
    assert tokens < 0.7 * plain_tokens


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"correct": 0}, "at least one correct or incorrect"),
        ({"correct": 40}, "32 samples a problem cannot meet"),
        ({"correct": 1, "most": 4}, "at least samples"),
    ],
)
def test_quotas_that_make_no_sense_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan(**fields)
