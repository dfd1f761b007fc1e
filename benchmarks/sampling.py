"""The sampling stage against raw vLLM and ray.data.llm: the same requests, the same settings, in turn.

    python -m benchmarks.sampling [--quick] [--json FILE]

Raw vLLM is its offline class `LLM`, as it comes and with cache blocks as small as the stage's, the one setting of the
engine in which they differ.

Every rate is tokens written over the time from the first request to the last trace on disk (for a peer: to its last
output), engine start left out. Raw vLLM and the stage are measured when their engines have answered a few requests;
ray.data.llm cannot wait for that, so it is compared with the stage from its engine's very first request on. In each
round every contender is measured once, in an order that turns from round to round; a ratio is that of one round, and
the median of the rounds is published. Lengths are forced: fixed, or lognormal as those of solutions are. ray.data.llm
keeps one output a row, so its rows are copied once a sample.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

import ray

from app.cluster import ray_session
from app.policy import WORLD_MODEL, base_policy
from app.problems.select import problems_of
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem
from app.rendering import Renderer
from app.sampling import stage as sampling
from app.sampling.engine import Engine, Request
from app.sampling.requests import sample_request
from app.sampling.settings import Stopping
from app.sampling.vllm import CPU_BLOCK, VllmEngine, cpu_environment
from app.shard_stats import Receipt
from app.stage import Stage, StageContext
from app.store import Output
from benchmarks import quotas
from benchmarks.table import Row, arguments, publish, row

SAMPLES = 16
STAGE, COLD, RAY = "stage", "stage from its engine's first request", "ray.data.llm"
RAW = {"raw-vllm": None, "raw-vllm with our cache blocks": CPU_BLOCK}
WARM = 192  # requests that an engine answers before it is measured
Contender = Callable[[int], dict[str, float]]


def length(kind: str, seed: int) -> int:
    """Tokens of the trace with this seed: 64, or lognormal with median 48, at most 160."""
    if kind == "fixed":
        return 64
    return min(160, max(4, round(48 * math.exp(random.Random(seed).gauss(0, 0.6)))))


class ForcedEngine(VllmEngine):
    """vLLM that writes as many tokens as the request's seed says."""

    kind = "fixed"

    def parameters(self, request: Request) -> dict[str, Any]:
        forced = {"max_tokens": length(self.kind, request.seed), "ignore_eos": True}
        return super().parameters(request) | forced


class TimedWorker(sampling.SamplingWorker):
    """The stage's worker; leaves a line with begin, end and tokens of its engine's first requests and of each shard."""

    kind: str
    warm: asyncio.Future[None] | None = None

    def start_engine(self) -> Engine:
        engine = ForcedEngine(self.policy.path, self.job.place)
        engine.kind = self.kind
        return engine

    async def process(self, index: int) -> Receipt:
        if self.warm is None:
            self.warm = asyncio.ensure_future(self._warm())
        await self.warm
        begun = time.time()
        receipt = await super().process(index)
        self._note("times", begun, receipt.counts["tokens"])
        return receipt

    async def _warm(self) -> None:
        begun = time.time()
        done = await self.engine.generate_n([request for request, _ in warm_requests(self.kind)])
        self._note("warm", begun, sum(len(one.token_ids) for one in done))

    def _note(self, name: str, begun: float, tokens: float) -> None:
        Path(self.output.uri).mkdir(parents=True, exist_ok=True)
        with Path(self.output.uri, name).open("a") as file:
            file.write(json.dumps([begun, time.time(), tokens]) + "\n")


class FixedWorker(TimedWorker):
    kind = "fixed"


class LognormalWorker(TimedWorker):
    kind = "lognormal"


LENGTHS = {"fixed": FixedWorker, "lognormal": LognormalWorker}


def warm_requests(kind: str) -> list[tuple[Request, int]]:
    """What an engine answers before it is measured, and the length of each."""
    asked = [Request(f"warm-{seed}", tuple(range(5, 55)), seed, 160) for seed in range(WARM)]
    return [(request, length(kind, request.seed)) for request in asked]


def recipe_of(kind: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": kind,
            "problems": {"train": 1, "validation": 1, "test": 1},
            "sampling": {"samples": SAMPLES, "max_tokens": 160, "problems_per_shard": 8},
            "placement": {"sampling": {"kv_cache_gib": 0.5}},
        }
    )


def stage_rates(kind: str, source: Output, folder: str) -> dict[str, float]:
    """Tokens a second of the whole stage: of a warm engine, and from the engine's first request on."""
    output = Output(folder, f"sampling-{kind}", "k")
    recipe = recipe_of(kind)
    definition = Stage("sampling/base", sampling.run, {}, options={"policy": recipe.model})
    with open(os.devnull, "w") as nowhere:
        context = StageContext(definition, recipe, {"problems": source}, output, Progress("sampling", nowhere))
        sampling.run(context, LENGTHS[kind])
    begun, ended, tokens = noted(output, "times")
    first, _, warming = noted(output, "warm")
    return {STAGE: tokens / (ended - begun), COLD: (tokens + warming) / (ended - first)}


def noted(output: Output, name: str) -> tuple[float, float, float]:
    """First begin, last end and all tokens of what TimedWorker noted."""
    begins, ends, tokens = zip(*map(json.loads, Path(output.uri, name).read_text().splitlines()), strict=True)
    return min(begins), max(ends), sum(tokens)


def requests_of(kind: str, source: Output) -> list[tuple[Request, int]]:
    """The stage's own requests, and the length of each."""
    recipe, policy = recipe_of(kind), base_policy(recipe_of(kind).model)
    assert recipe.sampling
    renderer = Renderer(policy.path, recipe.rendering)
    found = []
    for problem in problems_of(source, "train"):
        ids = renderer.prompt_ids(problem.statement)
        for sample in range(SAMPLES):
            request = sample_request(problem, ids, sample, recipe.sampling, recipe.seed, policy.fingerprint)
            found.append((request, length(kind, request.seed)))
    return found


class RawEngine:
    """vLLM's own offline class in an actor, with our engine's environment but for the processes it is spread over.

    In one process it shares a core with its own tokenizer work; in two, its default, it pays for messages. Which is
    faster depends on the machine: both are measured alike, and the one with the better median is the peer.

    Args:
        processes: "0" for one process, "1" for two.
        block: tokens of a cache block; None for vLLM's own choice.
    """

    def __init__(self, processes: str, block: int | None) -> None:
        place = recipe_of("fixed").placement.sampling
        os.environ.update(cpu_environment(place) | {"VLLM_ENABLE_V1_MULTIPROCESSING": processes})
        from vllm import LLM

        self.llm = LLM(
            str(WORLD_MODEL),
            enforce_eager=True,
            max_num_seqs=place.max_num_seqs,
            kv_cache_memory_bytes=int(place.kv_cache_gib * 2**30),
            enable_prefix_caching=True,
            enable_chunked_prefill=False,
            generation_config="vllm",
            **({"block_size": block} if block else {}),
        )

    def rate(self, requests: list[tuple[Request, int]]) -> float:
        """Tokens a second of one call of generate."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": list(request.prompt_token_ids)} for request, _ in requests]
        parameters = [
            SamplingParams(temperature=1.0, seed=request.seed, max_tokens=tokens, ignore_eos=True)
            for request, tokens in requests
        ]
        self.llm.reset_prefix_cache()
        begun = time.perf_counter()
        outputs = self.llm.generate(prompts, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.perf_counter() - begun)


def ray_data_llm_rate(requests: list[tuple[Request, int]]) -> float:
    """Tokens a second of ray.data.llm, from its first request's start to its last output."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    place = recipe_of("fixed").placement.sampling
    environment = cpu_environment(place)
    rows = [
        {"ids": list(request.prompt_token_ids), "seed": request.seed, "tokens": tokens} for request, tokens in requests
    ]
    config = vLLMEngineProcessorConfig(
        model_source=str(WORLD_MODEL),
        engine_kwargs={
            "enforce_eager": True,
            "max_num_seqs": place.max_num_seqs,
            "kv_cache_memory_bytes": int(place.kv_cache_gib * 2**30),
            "enable_prefix_caching": True,
            "enable_chunked_prefill": False,
            "generation_config": "vllm",
        },
        runtime_env={"env_vars": environment},
        batch_size=32,
        max_concurrent_batches=16,
        concurrency=1,
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        placement_group_config={"bundles": [{"CPU": 1}]},
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "tokenized_prompt": row["ids"],
            "sampling_params": {
                "temperature": 1.0,
                "seed": int(row["seed"]),
                "max_tokens": int(row["tokens"]),
                "ignore_eos": True,
                "detokenize": True,
            },
        },
        postprocess=lambda row: {
            "written": len(row["generated_tokens"]),
            "end": time.time(),
            "seconds": row["time_taken_llm"],
        },
    )
    done = processor(ray.data.from_items(rows, override_num_blocks=16)).take_all()
    if len(done) != len(rows):
        raise RuntimeError(f"ray.data.llm returned {len(done)} of {len(rows)} rows")
    begun = min(row["end"] - row["seconds"] for row in done)
    return sum(row["written"] for row in done) / (max(row["end"] for row in done) - begun)


def measure(problems: int, rounds: int, folder: str) -> list[Row]:
    """Each contender once a round; rows hold the median of the rounds' ratios."""
    from app.problems.world import World, make_problems

    source = Output(folder, "problems", "k")
    source.write_shard(0, Problem.table(make_problems(0, problems, "train", World())))
    raws = {
        f"{peer}, {spread}": ray.remote(RawEngine).options(num_cpus=0).remote(processes, block)
        for peer, block in RAW.items()
        for spread, processes in (("one process", "0"), ("two processes", "1"))
    }
    rows = []
    for kind in LENGTHS:
        requests = requests_of(kind, source)
        for raw in raws.values():
            ray.get(raw.rate.remote(warm_requests(kind)))
        print(f"{kind} lengths, tokens/s", flush=True)
        rates = in_turn(contenders(kind, source, requests, raws, folder), rounds)
        for peer in RAW:
            best = max((median(rates[name]), name) for name in raws if name.startswith(f"{peer}, "))[1]
            rows.append(compared(f"sampling stage, {kind} lengths", rates[STAGE], peer, rates[best]))
        if RAY in rates:
            rows.append(compared(f"sampling stage, {kind} lengths, cold", rates[COLD], RAY, rates[RAY]))
    return rows


def contenders(
    kind: str, source: Output, requests: list[tuple[Request, int]], raws: dict[str, Any], folder: str
) -> dict[str, Contender]:
    """What is measured at lengths of one kind. A contender takes the number of its round."""
    found: dict[str, Contender] = {STAGE: lambda number: stage_rates(kind, source, f"{folder}/{number}")}
    for name, raw in raws.items():
        found[name] = lambda _, name=name, raw=raw: {name: ray.get(raw.rate.remote(requests))}  # type: ignore[misc]
    if kind == "fixed":
        found[RAY] = lambda _: {RAY: ray_data_llm_rate([*warm_requests(kind), *requests])}
    return found


def in_turn(found: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Rates of the contenders, one a round; each round begins with the next of them."""
    names = list(found)
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            for label, rate in found[name](number).items():
                rates[label].append(rate)
                print(f"  round {number + 1}: {label} {rate:,.0f}", flush=True)
    return rates


def compared(name: str, ours: list[float], peer: str, theirs: list[float]) -> Row:
    """Median rates, and the median of the rounds' ratios with its range."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    span = f"{len(ratios)} rounds, ratio {min(ratios):.2f} to {max(ratios):.2f}"
    found = row(f"{name} ({span})", median(ours), "tokens/s", peer, median(theirs))
    return replace(found, ratio=median(ratios))


def quota_row(what: str, asked: Stopping, until: quotas.Spent, plain: quotas.Spent) -> Row:
    """Tokens to the quotas, with how many problems met them either way."""
    name = f"tokens to {asked.correct} correct and {asked.incorrect} incorrect, {what}"
    name += f" (met by {until.met} problems, plain {plain.met})"
    return row(name, until.tokens, "tokens", "plain", plain.tokens, lower_is_better=True)


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder, ray_session():
        rows = measure(24, 1, folder) if options.quick else measure(96, 3, folder)
    scripted = quotas.scripted(60 if options.quick else 300, lambda seed: length("lognormal", seed))
    rows.append(quota_row("scripted", quotas.SCRIPTED, *scripted))
    rows.append(quota_row("world policy", quotas.WORLD, *quotas.world(24 if options.quick else 96)))
    publish(rows, options.json)


if __name__ == "__main__":
    main()
