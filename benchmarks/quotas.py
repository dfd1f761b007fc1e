"""Tokens until quotas are met: `sample_to_quotas` against plain sampling, scripted and by a real engine.

Both are asked for so many correct and incorrect distinct traces a problem out of at most 32 samples, on problems of
mixed difficulty. What aborted requests had written counts as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from app.policy import WORLD_MODEL
from app.problems.world import World, make_problems
from app.recipe import RenderingSettings
from app.records import Problem, Trace, Verdict
from app.rendering import Renderer
from app.sampling.engine import Completion, Engine, Request, all_or_none
from app.sampling.requests import sample_n
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import EnginePlacement, SamplingSettings, Stopping
from app.sampling.stage import judge_beside
from app.sampling.stopping import Judge, Search, Tally, sample_to_quotas
from app.sampling.vllm import LlmSteps, VllmEngine
from app.verification.verifier import BuiltIn

SAMPLES = 32
SCRIPTED = Stopping(correct=4, incorrect=2)
WORLD = Stopping(correct=2, incorrect=2)  # its policy knows few ways to say the same
Prompt = tuple[Problem, list[int]]
Way = Callable[[Engine, Sequence[Prompt], Judge, Stopping], Coroutine[Any, Any, int]]


@dataclass(frozen=True)
class Spent:
    """What one way of sampling cost, and what it reached."""

    tokens: int
    met: int  # problems whose quotas were met


class Counting(Engine):
    """Passes requests on and adds up the tokens that come back."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.meter, self.context_length, self.tokens = engine, engine.meter, engine.context_length, 0

    async def generate(self, request: Request) -> Completion:
        done = await self.engine.generate(request)
        self.tokens += len(done.token_ids)
        return done


class CountingSteps(LlmSteps):
    """vLLM's engine, which also counts what was written for requests that are aborted."""

    aborted = 0

    def abort(self, name: str) -> None:
        outputs = self.llm.output_processor
        for own_name in outputs.external_req_ids.get(name, []):
            written = outputs.request_states[own_name].detokenizer
            self.aborted += written.num_output_tokens() if written else 0
        super().abort(name)

    def aborted_tokens(self) -> int:
        return self.aborted


class CountingVllm(VllmEngine):
    steps = "benchmarks.quotas:CountingSteps"


def settings(quotas: Stopping) -> SamplingSettings:
    return SamplingSettings(samples=SAMPLES, max_tokens=160, stopping=quotas)


async def plain(engine: Engine, prompts: Sequence[Prompt], judge: Judge, quotas: Stopping) -> int:
    """Draw all samples of all problems; how many problems met the quotas."""

    async def one(problem: Problem, ids: list[int]) -> bool:
        tally = Tally(quotas)
        for trace, _ in await sample_n(engine, problem, ids, settings(quotas), 0, "pol"):
            tally.add(trace, await judge(problem, trace))
        return tally.met

    return sum(await all_or_none(one(problem, ids) for problem, ids in prompts))


async def until(engine: Engine, prompts: Sequence[Prompt], judge: Judge, quotas: Stopping) -> int:
    """Draw until the quotas are met; how many problems met them."""
    searches = [Search(engine, problem, ids, settings(quotas), 0, "pol", judge) for problem, ids in prompts]
    await sample_to_quotas(searches, SAMPLES, SAMPLES)
    return sum(search.tally.met for search in searches)


def scripted(problems: int, length: Callable[[int], int]) -> tuple[Spent, Spent]:
    """(until, plain) with success rates evenly from 0.05 to 0.95 and a trace's length by its seed."""
    rates = [0.05 + 0.9 * n / (problems - 1) for n in range(problems)]
    prompts = [(Problem(f"p{n}", "", "1", "train", "scripted"), [n]) for n in range(problems)]

    def script(request: Request) -> Completion:
        rng = random.Random(request.seed)
        right = rng.random() < rates[request.prompt_token_ids[0]]
        tokens = tuple(rng.randrange(9) for _ in range(length(request.seed)))
        return Completion(tokens, "1" if right else "0", "stop")

    async def judge(_: Problem, trace: Trace) -> Verdict:
        return Verdict(trace.id, "correct" if trace.text == "1" else "incorrect", trace.text, "scripted", "none", 0.0)

    def spent(way: Way) -> Spent:
        engine = ScriptedEngine(script, latency=lambda request: length(request.seed) / 5000, slots=256)
        met = asyncio.run(way(engine, prompts, judge, SCRIPTED))
        return Spent(engine.tokens, met)

    return spent(until), spent(plain)


def world(problems: int) -> tuple[Spent, Spent]:
    """(until, plain) by vLLM with the shipped world policy, on problems of two to five operations."""
    renderer = Renderer(str(WORLD_MODEL), RenderingSettings())
    asked = make_problems(0, problems, "train", World(operations=(2, 5)))
    prompts = [(problem, renderer.prompt_ids(problem.statement)) for problem in asked]

    async def both() -> tuple[Spent, Spent]:
        engine, found, aborted = CountingVllm(str(WORLD_MODEL), EnginePlacement(kv_cache_gib=0.5)), [], 0
        for way in (until, plain):
            counting = Counting(engine)
            met = await way(counting, prompts, judge_beside(BuiltIn()), WORLD)
            lost = await engine.process.call("aborted_tokens") - aborted
            aborted += lost
            found.append(Spent(counting.tokens + lost, met))
        await engine.close()
        return found[0], found[1]

    return asyncio.run(both())
