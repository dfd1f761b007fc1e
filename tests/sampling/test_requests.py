"""Programs over a scripted engine: ids, seeds, order, failures."""

from __future__ import annotations

import asyncio

import pytest

from app.records import Problem, seed_from, trace_id
from app.sampling.engine import PromptTooLong
from app.sampling.requests import sample_n
from app.sampling.scripted import ScriptedEngine, digits
from app.sampling.settings import SamplingSettings

PROBLEM = Problem("p-1", "How many?", "3", "train", "test")
SETTINGS = SamplingSettings(samples=5, max_tokens=20, temperature=0.7, top_p=0.9, top_k=20, min_p=0.05)


def test_sample_n_keeps_every_sample_with_its_own_seed() -> None:
    engine = ScriptedEngine(latency=lambda r: 0.001 * (r.seed % 7))
    pairs = asyncio.run(sample_n(engine, PROBLEM, [5, 6], SETTINGS, 11, "pol"))
    traces = [trace for trace, _ in pairs]
    assert [t.sample for t in traces] == [0, 1, 2, 3, 4]
    assert [t.id for t in traces] == [trace_id("p-1", n, "pol") for n in range(5)]
    assert [t.seed for t in traces] == [seed_from(11, t.id) for t in traces]
    assert len({t.seed for t in traces}) == 5
    for request in engine.requests:
        assert (request.prompt_token_ids, request.max_tokens) == ((5, 6), 20)
        assert (request.temperature, request.top_p, request.top_k, request.min_p) == (0.7, 0.9, 20, 0.05)
    by_id = {r.id: r for r in engine.requests}
    for trace, done in pairs:
        assert done == digits(by_id[trace.id])
        assert tuple(trace.token_ids) == done.token_ids
        assert (trace.text, trace.finish_reason) == (done.text, done.finish_reason)
        assert (trace.prompt_token_ids, trace.prefix_tokens, trace.parent) == ([5, 6], 0, None)


def test_fewer_samples_are_the_first_of_more() -> None:
    few = asyncio.run(sample_n(ScriptedEngine(), PROBLEM, [5], SETTINGS.model_copy(update={"samples": 2}), 1, "pol"))
    more = asyncio.run(sample_n(ScriptedEngine(), PROBLEM, [5], SETTINGS, 1, "pol"))
    assert few == more[:2]


def test_seeds_change_with_the_runs_seed_and_ids_do_not() -> None:
    one = asyncio.run(sample_n(ScriptedEngine(), PROBLEM, [5], SETTINGS, 1, "pol"))
    two = asyncio.run(sample_n(ScriptedEngine(), PROBLEM, [5], SETTINGS, 2, "pol"))
    assert [t.id for t, _ in one] == [t.id for t, _ in two]
    assert all(a.seed != b.seed for (a, _), (b, _) in zip(one, two, strict=True))


def test_a_prompt_without_room_is_refused() -> None:
    with pytest.raises(PromptTooLong):
        asyncio.run(sample_n(ScriptedEngine(context_length=4), PROBLEM, [1, 2, 3, 4], SETTINGS, 0, "pol"))
