"""One problem's credit over an engine whose step values are known."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import httpx2
import pytest
from openai import DefaultAsyncHttpxClient

from app.credit.problem import Credit, credit_problem, distinct_traces
from app.credit.rollouts import ProblemRollouts
from app.credit.settings import CreditSettings
from app.records import Problem, StepValue, Trace, Verdict
from app.sampling.engine import Completion, Request
from app.sampling.openai import OpenAIEngine
from app.tokens import TokenText
from tests.credit.bernoulli import (
    END,
    PROBLEM,
    PROMPT,
    Bernoulli,
    decode,
    ids,
    judge,
    right,
    sampler,
    trace,
    verdict,
    wrong,
)


def run(samples, engine, seed: int = 0, shared: bool = True, judged_by=None, **settings) -> Credit:
    how = sampler(engine, seed, judged_by) if judged_by else sampler(engine, seed)
    return asyncio.run(
        credit_problem(
            PROBLEM, samples, how, TokenText(decode), CreditSettings(**settings), samples_are_rollouts=shared
        )
    )


@pytest.mark.parametrize("search", ["exhaustive", "sequential", "binary"])
def test_a_deterministic_fall_is_found(search: str) -> None:
    credit = run([wrong(6), right(1)], Bernoulli([1, 1, 1, 0, 0, 0]), search=search)
    (pit,) = [row for row in credit.values if row.first_pit]
    assert (pit.step, pit.q, pit.text) == (3, 0.0, "step 3 of 0\n")
    before = next(row for row in credit.values if row.step == 2)
    assert before.q == 1 and pit.advantage == -1.0
    assert credit.counts["pits"] == credit.counts["traces"] == 1


def test_an_endpoint_whose_context_is_unknown_still_serves_the_prefixes_that_fit() -> None:
    """It refuses prefix + max_tokens above 40 tokens: rollouts are cut to it, only prefixes without room are lost."""

    def serve(request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content)
        if len(asked["prompt"]) + asked["max_tokens"] > 40:
            return httpx2.Response(400, text="This model's maximum context length is 40 tokens.")
        done = {"text": "#### 1", "token_ids": ids("#### 1"), "finish_reason": "stop"}
        return httpx2.Response(200, json={"choices": [done]})

    http = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(serve))
    credit = run([wrong(5), right(1)], OpenAIEngine("http://server/v1", "m", http_client=http), search="exhaustive")
    ends = [row.end for row in credit.values[1:-1]]  # after 12, 24, 36 and 48 characters, behind a prompt of 2
    assert ends == [12, 24, 36, 48]
    assert {rollout.prefix_tokens for rollout in credit.rollouts} == {12, 24, 36}
    assert credit.counts["prefixes_too_long"] == 1


def test_rows_are_the_rollouts_told() -> None:
    credit = run([wrong(5), right(1)], Bernoulli([1, 0.7, 0.5, 0.4, 0.2]), search="exhaustive", rollouts=7)
    correct = {v.trace_id: v.correct for v in credit.verdicts}
    told: dict[int, Counter] = {}
    for rollout in credit.rollouts:
        told.setdefault(rollout.prefix_tokens, Counter())[correct[rollout.id]] += 1
    assert [row.step for row in credit.values] == [0, 1, 2, 3, 4, 5]
    for row in credit.values[1:-1]:
        assert (row.correct, row.judged) == (told[row.end][True], 7)
        assert row.q == row.correct / 7 and row.low <= row.q <= row.high
    start, last = credit.values[0], credit.values[-1]
    assert (start.correct, start.judged, start.start, start.end, start.text) == (1, 2, 0, 0, "")
    assert (last.q, last.low, last.high, last.end) == (0.0, 0.0, 0.0, len(wrong(5)[0].token_ids))
    assert Trace.table(credit.rollouts).num_rows == Verdict.table(credit.verdicts).num_rows == 28
    assert StepValue.from_table(StepValue.table(credit.values)) == credit.values


def test_rollouts_go_on_from_the_very_tokens() -> None:
    engine = Bernoulli([1, 1, 0])
    sample = wrong(3)
    credit = run([sample, right(1)], engine, search="exhaustive")
    prompt = ids(PROMPT, end=False)
    for rollout in credit.rollouts:
        assert rollout.prompt_token_ids == prompt + sample[0].token_ids[: rollout.prefix_tokens]
        assert rollout.parent == sample[0].id
    assert {tuple(r.prompt_token_ids) for r in engine.requests} == {tuple(r.prompt_token_ids) for r in credit.rollouts}
    assert len({r.id for r in credit.rollouts}) == len({r.seed for r in credit.rollouts}) == len(credit.rollouts)


def test_the_judge_sees_prefix_and_rollout() -> None:
    seen: list[str] = []

    def spy(problem, texts, endings):
        seen.extend(texts)
        return [Verdict("", "incorrect", None, "", "", 0.0) for _ in texts]

    run([wrong(3), right(1)], Bernoulli([1, 1, 1]), judged_by=spy, search="exhaustive", rollouts=1)
    assert sorted(seen) == ["step 1 of 0\n#### 1", "step 1 of 0\nstep 2 of 0\n#### 1"]


def test_traces_with_the_same_beginning_share_rollouts() -> None:
    one, two = trace("same\nb\n#### 0", 0), trace("same\nc\n#### 0", 1)
    samples = [(one, verdict(one, "incorrect")), (two, verdict(two, "incorrect")), right(2)]
    credit = run(samples, Bernoulli([1, 1, 0]), search="exhaustive", rollouts=3)
    assert credit.counts["rollouts"] == 9  # after "same", after b, after c
    shared = [r for r in credit.rollouts if decode(r.prompt_token_ids).endswith("same\n")]
    assert len(shared) == 3 and {r.parent for r in shared} == {"t-0"}
    assert [row.q for row in credit.values if row.step == 1] == [1.0, 1.0]


@pytest.mark.parametrize("search", ["exhaustive", "sequential", "binary"])
def test_the_answer_does_not_depend_on_order_or_company(search: str) -> None:
    samples = [wrong(5, 0), wrong(4, 1), wrong(7, 2), right(3)]
    engine = [0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    together, turned = (run(given, Bernoulli(engine), search=search) for given in (samples, samples[::-1]))
    assert together == turned
    alone = run([samples[1], right(3)], Bernoulli(engine), search=search)
    assert {r.id for r in alone.rollouts} <= {r.id for r in together.rollouts}


def test_another_seed_draws_other_rollouts() -> None:
    samples = [wrong(5), right(1)]
    one, two = (run(samples, Bernoulli([0.5] * 5), seed=s, search="exhaustive") for s in (0, 1))
    assert [r.seed for r in one.rollouts] != [r.seed for r in two.rollouts]


def test_different_conditions_roll_out_the_start_too() -> None:
    engine = Bernoulli([1, 1, 0])
    credit = run([wrong(3), right(1)], engine, shared=False, rollouts=4)
    assert credit.values[0].judged == 4 and ids(PROMPT, end=False) in [r.prompt_token_ids for r in credit.rollouts]


def test_searches_run_side_by_side() -> None:
    engine = Bernoulli([1] * 8)
    run([wrong(8, i) for i in range(4)] + [right(9)], engine, search="binary", rollouts=4)
    assert engine.most_running == 16


def test_problems_without_a_question_are_skipped_and_counted() -> None:
    engine = Bernoulli([1])
    assert run([right(0), right(1)], engine).counts == {"problems_without_wrong": 1}
    assert run([wrong(3, 0), wrong(3, 1)], engine).counts == {"problems_all_wrong": 1}
    unfinished = trace("no end", 0, finish="length", end=False)
    assert run([(unfinished, verdict(unfinished, "unparsed")), right(1)], engine).counts == {
        "problems_without_wrong": 1
    }
    timed_out = trace("x", 0)
    assert run([(timed_out, verdict(timed_out, "timeout")), right(1)], engine).counts == {"problems_without_wrong": 1}
    assert run([], engine).counts == {"problems_without_wrong": 1}
    assert not engine.requests


def test_at_most_so_many_traces_and_no_twins() -> None:
    samples = [wrong(3, 5), wrong(3, 1), wrong(4, 2)]
    twin = wrong(3, 1)[0]
    twin = Trace(**{**{f: getattr(twin, f) for f in Trace.__slots__}, "id": "t-9", "sample": 9})
    more = [*samples, (twin, verdict(twin, "incorrect")), right(3)]
    assert [t.id for t in distinct_traces(more, correct=False, most=9)] == ["t-1", "t-2", "t-5"]
    assert [t.id for t in distinct_traces(samples, correct=False, most=2)] == ["t-1", "t-2"]
    assert [t.id for t in distinct_traces(more, correct=True, most=9)] == ["t-3"]


def test_prefixes_longer_than_the_context_are_unknown() -> None:
    sample = wrong(6)
    room = len(PROMPT) + sample[0].token_ids.index(ord("3"))  # the prefixes after steps 1 and 2 fit
    credit = run([sample, right(1)], Bernoulli([1] * 6, context=room), search="exhaustive")
    assert [row.step for row in credit.values if row.q is not None] == [0, 1, 2, 6]
    assert [row.step for row in credit.values] == list(range(7))
    assert credit.counts["prefixes_too_long"] == 3 and credit.counts["pits"] == 0


def test_unfinished_rollouts_are_kept_but_say_nothing() -> None:
    credit = run([wrong(4), right(1)], Bernoulli([1] * 4, finish="length"), search="exhaustive", rollouts=2)
    assert credit.counts["truncated"] == credit.counts["rollouts"] == 6
    unknown = [row for row in credit.values if row.q is None]
    assert [row.step for row in unknown] == [1, 2, 3]
    assert {(row.judged, row.low, row.high, row.hard) for row in unknown} == {(0, 0.0, 1.0, None)}
    assert not any(row.first_pit for row in credit.values)


@pytest.mark.parametrize("search", ["exhaustive", "sequential", "binary"])
def test_a_trace_without_end_token_and_with_one_step(search: str) -> None:
    sample = trace("#### 0", 0, end=False)
    credit = run([(sample, verdict(sample, "incorrect")), right(1)], Bernoulli([1]), search=search)
    assert [(row.step, row.start, row.end, row.first_pit) for row in credit.values] == [
        (0, 0, 0, False),
        (1, 0, 6, True),
    ]
    assert not credit.rollouts


def test_200_steps() -> None:
    credit = run([wrong(200), right(1)], Bernoulli([1] * 77 + [0] * 123))
    assert [row.step for row in credit.values if row.first_pit] == [77]


def test_shards_add_up() -> None:
    shard = Credit()
    for samples in ([wrong(3), right(1)], [right(1)], [wrong(4), right(1)]):
        shard.add(run(samples, Bernoulli([1] * 4)))
    assert shard.counts["problems"] == 2 and shard.counts["problems_without_wrong"] == 1
    assert shard.counts["rollouts"] == len(shard.rollouts) == len(shard.verdicts)


def test_end_token_is_never_part_of_a_prefix() -> None:
    credit = run([wrong(5), right(1)], Bernoulli([1] * 5), search="exhaustive")
    assert all(END not in r.prompt_token_ids for r in credit.rollouts)


def test_rollouts_are_judged_as_the_decoder_reads_the_whole() -> None:
    """SentencePiece's decoders drop the space of a first token: two halves read one after the other lose it."""

    def drops_a_first_space(tokens: list[int]) -> str:
        return decode(tokens).removeprefix(" ")

    class Spaced(Bernoulli):
        async def generate(self, request: Request) -> Completion:
            done = await super().generate(request)
            tokens = ids(" " + done.text)
            return replace(done, token_ids=tuple(tokens), text=drops_a_first_space(tokens))

    judged: list[str] = []

    def spy(problem: Problem, texts: list[str], endings: list[str]) -> list[Verdict]:
        judged.extend(texts)
        return judge(problem, texts, endings)

    how = replace(sampler(Spaced([0.5, 0.5, 0.5]), judged_by=spy), decode=drops_a_first_space)
    pool = ProblemRollouts(PROBLEM, ids(PROMPT, end=False), [], how)
    asyncio.run(pool.take(tuple(ids("step 1\n", end=False)), 8))
    asyncio.run(pool.take((), 8))
    assert set(judged) == {"step 1\n #### 0", "step 1\n #### 1", "#### 0", "#### 1"}
