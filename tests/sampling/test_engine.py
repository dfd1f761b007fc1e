"""The engine's common part and the scripted engine."""

from __future__ import annotations

import asyncio

import pytest

from app.sampling.engine import Completion, EngineDead, PromptTooLong, Request, check_fits
from app.sampling.scripted import ScriptedEngine, digits


def request(number: int, seed: int = 0, prompt: int = 3, max_tokens: int = 100) -> Request:
    return Request(f"r{number}", tuple(range(prompt)), seed or number, max_tokens)


def test_check_fits_gives_what_the_context_leaves() -> None:
    assert check_fits(request(0, prompt=3, max_tokens=5), 10) == 5
    assert check_fits(request(0, prompt=8, max_tokens=5), 10) == 2
    assert check_fits(request(0, prompt=9, max_tokens=5), 10) == 1
    with pytest.raises(PromptTooLong, match="r0: a prompt of 10 tokens leaves no room in a context of 10"):
        check_fits(request(0, prompt=10), 10)


def test_script_follows_prompt_and_seed() -> None:
    engine = ScriptedEngine()
    first, again, other = asyncio.run(engine.generate_n([request(1, seed=4), request(2, seed=4), request(3, seed=5)]))
    assert first == again != other


def test_long_completions_are_cut_and_marked() -> None:
    engine = ScriptedEngine()
    whole = digits(request(1))
    done = asyncio.run(engine.generate(request(1, max_tokens=2)))
    assert done.token_ids == whole.token_ids[:2]
    assert (whole.finish_reason, done.finish_reason) == ("stop", "length")


def test_slots_bound_what_runs_at_once() -> None:
    engine = ScriptedEngine(latency=lambda _: 0.001, slots=3)
    done = asyncio.run(engine.generate_n([request(i) for i in range(10)]))
    assert len(done) == 10
    assert engine.most_active == 3


def test_order_is_that_of_the_requests_whoever_finishes_first() -> None:
    engine = ScriptedEngine(latency=lambda r: 0.02 - 0.004 * int(r.id[1:]))
    requests = [request(i) for i in range(4)]
    assert asyncio.run(engine.generate_n(requests)) == [digits(r) for r in requests]


def test_cancelling_aborts_the_requests_under_way() -> None:
    engine = ScriptedEngine(latency=lambda _: 60.0, slots=2)

    async def run() -> None:
        task = asyncio.create_task(engine.generate_n([request(i) for i in range(4)]))
        while engine.active < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert sorted(engine.aborted) == ["r0", "r1", "r2", "r3"]
    assert (engine.active, engine.served) == (0, 0)


def test_the_first_failure_aborts_the_others() -> None:
    def script(r: Request) -> Completion:
        if r.id == "r2":
            raise EngineDead("gone")
        return digits(r)

    engine = ScriptedEngine(script, latency=lambda _: 60.0)
    with pytest.raises(EngineDead, match="gone"):
        asyncio.run(engine.generate_n([request(i) for i in range(4)]))
    assert sorted(engine.aborted) == ["r0", "r1", "r3"]


def test_a_dead_engine_serves_nothing_more() -> None:
    engine = ScriptedEngine(dies_after=1)

    async def run() -> None:
        await engine.generate(request(0))
        with pytest.raises(EngineDead):
            await engine.generate(request(1))

    asyncio.run(run())
