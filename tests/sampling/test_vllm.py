"""The real engine on the shipped tiny model: one start for all tests, one event loop, the last test kills it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.policy import WORLD_MODEL
from app.recipe import RenderingSettings
from app.rendering import Renderer
from app.sampling.engine import EngineDead, PromptTooLong, Request
from app.sampling.settings import EnginePlacement

Run = Callable[[Awaitable[Any]], Any]
STATEMENT = "Anna has 12 apples . She buys 7 more . How many apples does she have ?"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(str(WORLD_MODEL), RenderingSettings())


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.fixture(scope="module")
def engine(run: Run) -> Iterator[Any]:
    from app.sampling.vllm import VllmEngine

    found = VllmEngine(str(WORLD_MODEL), EnginePlacement(kv_cache_gib=0.25, max_num_seqs=64))
    yield found
    run(found.close())


def request(prompt: list[int], seed: int = 0, max_tokens: int = 40, temperature: float = 1.0, **more: Any) -> Request:
    request.number += 1  # type: ignore[attr-defined]
    return Request(f"r{request.number}", tuple(prompt), seed, max_tokens, temperature, **more)  # type: ignore[attr-defined]


request.number = 0  # type: ignore[attr-defined]


def test_seeds_decide_the_tokens(engine: Any, run: Run, renderer: Renderer) -> None:
    prompt = renderer.prompt_ids(STATEMENT)
    alone = run(engine.generate(request(prompt, seed=3)))
    crowd = run(engine.generate_n([request(prompt, seed=seed) for seed in range(16)]))
    assert crowd[3].token_ids == alone.token_ids
    assert len({done.token_ids for done in crowd}) > 1
    assert all(done.text == renderer.decode(list(done.token_ids)) for done in crowd)
    assert all(done.seconds > 0 for done in crowd)


def test_finish_reasons_tell_a_cut_trace_from_a_finished_one(engine: Any, run: Run, renderer: Renderer) -> None:
    prompt = renderer.prompt_ids(STATEMENT)
    cut = run(engine.generate(request(prompt, max_tokens=3)))
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", 3)
    for done in run(engine.generate_n([request(prompt, seed, max_tokens=200) for seed in range(8)])):
        assert done.finish_reason == ("stop" if done.token_ids[-1] == renderer.end_id else "length")


def test_the_context_ends_a_trace_and_refuses_a_prompt(engine: Any, run: Run) -> None:
    length = engine.context_length
    last = run(engine.generate(request([5] * (length - 1), max_tokens=50)))
    assert len(last.token_ids) == 1
    with pytest.raises(PromptTooLong, match=f"context of {length}"):
        run(engine.generate(request([5] * length)))


def test_a_prefix_of_token_ids_continues_as_the_trace_did(engine: Any, run: Run, renderer: Renderer) -> None:
    prompt = renderer.prompt_ids(STATEMENT)
    whole = run(engine.generate(request(prompt, temperature=0.0, max_tokens=20)))
    rest = run(engine.generate(request([*prompt, *whole.token_ids[:4]], temperature=0.0, max_tokens=16)))
    assert rest.token_ids == whole.token_ids[4:]


def test_cancelling_aborts_in_the_engine(engine: Any, run: Run, renderer: Renderer) -> None:
    prompt = renderer.prompt_ids(STATEMENT)[:4]

    async def cancel() -> bool:
        task = asyncio.create_task(engine.generate_n([request(prompt, seed, max_tokens=200) for seed in range(8)]))
        while not await engine.process.call("busy"):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await engine.process.call("busy")

    assert not run(cancel())
    assert engine.meter.active == 0


def test_other_weights_replace_these_and_back(engine: Any, run: Run, renderer: Renderer, tmp_path: Path) -> None:
    """With the output head negated, greedy decoding takes what was least likely: a head left behind would show."""
    import torch
    from transformers import AutoModelForCausalLM

    prompt = renderer.prompt_ids(STATEMENT)
    model = AutoModelForCausalLM.from_pretrained(WORLD_MODEL, dtype=torch.bfloat16)
    with torch.no_grad():
        model.model.norm.weight.neg_()
        model.model.embed_tokens.weight.mul_(1.5)
        scores = model(torch.tensor([prompt])).logits[0, -1]
    model.save_pretrained(tmp_path)
    before = run(engine.generate(request(prompt, temperature=0.0, max_tokens=8)))
    run(engine.load_weights(str(tmp_path)))
    other = run(engine.generate(request(prompt, temperature=0.0, max_tokens=8)))
    run(engine.load_weights(str(WORLD_MODEL)))
    after = run(engine.generate(request(prompt, temperature=0.0, max_tokens=8)))
    assert before.token_ids == after.token_ids
    assert other.token_ids[0] != before.token_ids[0]
    assert scores[other.token_ids[0]] >= scores.max() - 0.1


def test_weights_stay_while_the_cache_is_held(engine: Any, run: Run, renderer: Renderer, tmp_path: Path) -> None:
    """Requests that only the engine knows of still hold blocks computed with the old weights."""
    prompt = renderer.prompt_ids(STATEMENT)

    async def during() -> None:
        endless = {"max_tokens": 200, "ignore_eos": True, "detokenize": False}
        held = asyncio.gather(*(engine.process.generate(prompt, endless | {"seed": seed}) for seed in range(512)))
        while not await engine.process.call("busy"):  # answered after a step
            await asyncio.sleep(0.001)
        with pytest.raises(RuntimeError, match="requests still hold the cache, which belongs to the old weights"):
            await engine.load_weights(str(tmp_path))
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        await engine.load_weights(str(WORLD_MODEL))

    run(during())


def test_a_hanging_engine_is_killed_and_dead(engine: Any, run: Run, renderer: Renderer) -> None:
    prompt = renderer.prompt_ids(STATEMENT)
    process = engine.process.process
    engine.process._stall, engine.process._watching = 1.0, False  # watch anew: the earlier watch looks in minutes

    async def hang() -> None:
        task = asyncio.create_task(engine.generate_n([request(prompt, seed, max_tokens=200) for seed in range(64)]))
        await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(EngineDead, match="finished nothing for 1 seconds"):
            await task
        with pytest.raises(EngineDead):
            await engine.generate(request(prompt))

    run(hang())
    assert process.wait(timeout=20) == -signal.SIGKILL
