"""The stage's engine against raw vLLM on the same requests: tokens a second, start-up, CUDA graphs, the prefix cache.

Raw vLLM is its offline class `LLM` with the same settings, in a process of its own and after ours has ended, so each
has the device alone. Traces have GSM8K's lengths, forced. Each start has an empty compile cache.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from app.sampling.engine import Request
from app.sampling.settings import EnginePlacement, Speculation
from app.sampling.vllm import ENVIRONMENT, LlmSteps, VllmEngine, cpu_environment, engine_arguments
from benchmarks.gpu_parts import models, raw_vllm
from benchmarks.gpu_parts.case import FAILED, Case, Setup, Skipped
from benchmarks.gpu_parts.lengths import LENGTHS, Maker, flat
from benchmarks.table import Row, row

CONTEXT = 1024
OURS_ALONE = ("worker_extension_cls", "max_num_batched_tokens")  # raw vLLM has its own defaults there
NAMES = "sampling, {}"


class Counting(LlmSteps):
    """Also counts what the cache had of the prompts. Lives in the engine's process."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.read = self.cached = 0
        inner = self.llm.step

        def step() -> Any:
            found = inner()
            self.read += sum(len(one.prompt_token_ids or ()) for one in found)
            self.cached += sum(one.num_cached_tokens or 0 for one in found)
            return found

        self.llm.step = step

    def fresh(self) -> None:
        """Empty the cache, count from 0."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("requests still hold the cache")
        self.read = self.cached = 0

    def counts(self) -> tuple[int, int]:
        """Tokens of prompts since `fresh`, and how many of them the cache had."""
        return self.read, self.cached


class Forced(VllmEngine):
    """Writes as many tokens as asked for."""

    steps = "benchmarks.gpu_parts.sampling:Counting"

    def parameters(self, request: Request) -> dict[str, Any]:
        return super().parameters(request) | {"ignore_eos": True}


@dataclass
class Found:
    """What an engine did."""

    start: float  # seconds from nothing to the first answer
    rates: list[float] = field(default_factory=list)  # tokens a second, a round
    tail: float = 0.0  # share of the last round's time in which its last tenth of requests ended
    hits: float = 0.0  # shares of rollouts' prompt tokens: from the cache,
    possible: float = 0.0  # and seen before

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def cases(setup: Setup) -> list[Case]:
    shapes = ["1.5B", "0.5B"] if setup.device == "cuda" else ["tiny-served"]
    against = [Case(NAMES.format(shape), partial(against_raw, setup, shape), 400) for shape in shapes]
    more = [
        Case("sampling, CUDA graphs", partial(graphs, setup, shapes[0]), 300),
        Case("sampling, speculation", partial(speculation, setup, shapes[0]), 300),
    ]
    return [*against[:1], *more] if setup.quick else [*against[:1], *more, *against[1:]]


def placement(setup: Setup, eager: bool | None = None) -> EnginePlacement:
    """Of one engine."""
    where: dict[str, Any] = {"gpus": 1, "gpu_memory": 0.8} if setup.device == "cuda" else {"kv_cache_gib": 0.5}
    return EnginePlacement.model_validate({**where, "max_model_len": CONTEXT, "enforce_eager": eager})


@lru_cache
def folder_of(setup: Setup, shape: str) -> str:
    """The model's folder, for as long as the process lives; the GPU's memory is free again."""
    dtype = torch.bfloat16 if setup.device == "cuda" else torch.float32
    folder = str(models.save(Path(tempfile.mkdtemp()), shape, setup.device, CONTEXT, dtype=dtype))
    if setup.device == "cuda":
        torch.cuda.empty_cache()
    return folder


def maker(shape: str) -> Maker:
    return Maker(LENGTHS["GSM8K"], models.vocabulary_of(shape))


def requests(setup: Setup, shape: str) -> list[Request]:
    """Samples of problems: equal prompts, lengths of their own."""
    problems, samples = (64, 16) if setup.device == "cuda" else (8, 4)
    draw, out = maker(shape), list[Request]()
    for problem in range(problems):
        prompt = tuple(draw.tokens(draw.lengths.prompt))
        for sample in range(samples):
            number = problem * samples + sample
            out.append(Request(f"{problem}-{sample}", prompt, number, len(flat(draw.solution()))))
    return out


def rollouts(setup: Setup, shape: str) -> list[list[list[Request]]]:
    """Of each trace, at some of its steps from the first down, eight continuations."""
    draw, out = maker(shape), list[list[list[Request]]]()
    for trace in range(32 if setup.device == "cuda" else 4):
        prompt, steps = draw.tokens(draw.lengths.prompt), draw.solution()
        places = []
        for pit in range(1, len(steps), 2):
            ids, left = tuple(prompt + flat(steps[:pit])), len(flat(steps[pit:]))
            places.append([Request(f"{trace}-{pit}-{n}", ids, 1000 * trace + 10 * pit + n, left) for n in range(8)])
        out.append(places)
    return out


@lru_cache
def ours(setup: Setup, shape: str, eager: bool | None) -> Found:
    """The stage's engine."""
    os.environ["VLLM_CACHE_ROOT"] = tempfile.mkdtemp()
    begun = time.perf_counter()
    engine = Forced(folder_of(setup, shape), placement(setup, eager))
    return asyncio.run(session(engine, begun, requests(setup, shape), rollouts(setup, shape), rounds(setup)))


def rounds(setup: Setup) -> int:
    return 3 if setup.device == "cuda" and not setup.quick else 1


async def session(
    engine: Forced, begun: float, asked: list[Request], credit: list[list[list[Request]]], number: int
) -> Found:
    """All that one engine is asked."""
    await engine.generate(warm(asked)[0])
    found = Found(time.perf_counter() - begun)
    await engine.generate_n(warm(asked))
    for _ in range(number):
        await engine.process.call("fresh")
        ends: list[float] = []

        async def one(request: Request, ends: list[float] = ends) -> int:
            done = await engine.generate(request)
            ends.append(time.perf_counter())
            return len(done.token_ids)

        start = time.perf_counter()
        tokens = sum(await asyncio.gather(*(one(request) for request in asked)))
        found.rates.append(tokens / (time.perf_counter() - start))
        found.tail = (ends[-1] - ends[len(ends) * 9 // 10]) / (ends[-1] - start)
    await engine.process.call("fresh")
    await asyncio.gather(*(_searched(engine, places) for places in credit))
    read, cached = await engine.process.call("counts")
    found.hits, found.possible = cached / read, possible(credit)
    await engine.close()
    return found


async def _searched(engine: Forced, places: list[list[Request]]) -> None:
    for place in places:  # as credit's search does: the next place when this one is known
        await engine.generate_n(place)


def possible(credit: list[list[list[Request]]]) -> float:
    """Share of prompt tokens that an endless cache, token by token, would have had."""
    asked = sum(len(one.prompt_token_ids) for places in credit for place in places for one in place)
    new = sum(len(places[-1][0].prompt_token_ids) for places in credit)
    return 1 - new / asked


def warm(asked: list[Request]) -> list[Request]:
    """What an engine answers before it is measured."""
    return [replace(one, id=f"warm-{one.id}", max_tokens=16) for one in asked[: len(asked) // 4]]


def raw(setup: Setup, shape: str) -> Found:
    """vLLM's own class, in another process, which has its environment before it loads anything."""
    place = placement(setup)
    given = {name: value for name, value in engine_arguments(place).items() if name not in OURS_ALONE}
    environment = ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"} | ({} if place.gpus else cpu_environment(place))
    environment["VLLM_CACHE_ROOT"] = tempfile.mkdtemp()
    asked = requests(setup, shape)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), raw_vllm.prepare, (environment,)) as apart:
        what = folder_of(setup, shape), given, asked, warm(asked), rounds(setup)
        return Found(*apart.submit(raw_vllm.session, *what).result())


def against_raw(setup: Setup, shape: str) -> list[Row]:
    """Rates and start-up against raw vLLM; what the cache had of rollouts; the tail."""
    mine, theirs = ours(setup, shape, None), raw(setup, shape)
    hits, name = 100 * mine.hits, NAMES.format(shape)
    return [
        replace(row(name, mine.rate, "tokens/s", "raw-vllm", theirs.rate), note="goal: ratio 0.95"),
        row(f"{name}: start-up to the first answer", mine.start, "s", "raw-vllm", theirs.start, lower_is_better=True),
        broken(row(f"{name}: prompt tokens of rollouts from the cache", hits, "%", "possible", 100 * mine.possible)),
        row(f"{name}: time in which the last tenth of requests ends", 100 * mine.tail, "%"),
    ]


def broken(found: Row) -> Row:
    """A cache that has less than half of what it could has gone wrong."""
    return replace(found, note=f"{FAILED}the prefix cache has too little") if (found.ratio or 0) < 0.5 else found


def graphs(setup: Setup, shape: str) -> list[Row]:
    """CUDA graphs, the default there, against none."""
    if setup.device != "cuda":
        raise Skipped("CUDA graphs need a GPU")
    graphs, eager = ours(setup, shape, None), ours(setup, shape, True)
    name = f"{NAMES.format(shape)}: CUDA graphs"
    return [
        row(name, graphs.rate, "tokens/s", "eager", eager.rate),
        row(f"{name}, start-up", graphs.start, "s", "eager", eager.start, lower_is_better=True),
    ]


def speculation(setup: Setup, shape: str) -> list[Row]:
    """Whether greedy traces stay what they are when tokens are guessed ahead. Nothing of random weights can be guessed
    well, so how fast it is says nothing.
    """
    if setup.device != "cuda":
        raise Skipped("speculation needs a GPU")
    asked = [replace(one, temperature=0.0, max_tokens=16) for one in requests(setup, shape)[::16]]
    with_it, without = (asyncio.run(answers(setup, shape, asked, how)) for how in ({"tokens": 3}, None))
    same = sum(mine == theirs for mine, theirs in zip(with_it, without, strict=True)) / len(asked)
    found = row(f"{NAMES.format(shape)}: greedy traces that speculation leaves as they are", 100 * same, "%")
    return [replace(found, note="" if same >= 0.8 else f"{FAILED}below 80%")]  # a tie may fall either way


async def answers(setup: Setup, shape: str, asked: list[Request], how: dict[str, Any] | None) -> list[tuple[int, ...]]:
    """What an engine with this speculation writes."""
    place = placement(setup).model_copy(update={"speculative": Speculation.model_validate(how) if how else None})
    engine = Forced(folder_of(setup, shape), place)
    done = await engine.generate_n(asked)
    await engine.close()
    return [one.token_ids for one in done]
