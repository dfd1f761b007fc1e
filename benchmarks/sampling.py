"""The sampling stage against raw vLLM and ray.data.llm: the same requests, the same settings, one after the other.

    python -m benchmarks.sampling [--quick] [--json FILE]

Every rate is tokens written over the time from the first request to the last trace on disk (for a peer: to its last
output), engine start left out. Lengths are forced: fixed, or lognormal as those of solutions are. ray.data.llm keeps
one output a row, so its rows are copied once a sample.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from app.cluster import ray_session
from app.policy import WORLD_MODEL, base_policy
from app.problems.select import problems_of
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem, Verdict
from app.rendering import Renderer
from app.sampling import stage as sampling
from app.sampling.engine import Completion, Engine, Request
from app.sampling.programs import sample_n, sample_request
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import SamplingSettings, Until
from app.sampling.until import Search, sample_until
from app.sampling.vllm import VllmEngine, cpu_environment
from app.stage import Stage, StageContext
from app.store import Output
from benchmarks.table import Row, arguments, publish, row

SAMPLES = 16
LENGTHS = ("fixed", "lognormal")


def length(kind: str, seed: int) -> int:
    """Tokens of the trace with this seed: 64, or lognormal with median 48, at most 160."""
    if kind == "fixed":
        return 64
    return min(160, max(4, round(48 * math.exp(random.Random(seed).gauss(0, 0.6)))))


class ForcedEngine(VllmEngine):
    """vLLM that writes as many tokens as the request's seed says."""

    kind = "fixed"

    def parameters(self, request: Request) -> Any:
        found = super().parameters(request)
        found.max_tokens, found.ignore_eos = length(self.kind, request.seed), True
        return found


class TimedWorker(sampling.SamplingWorker):
    """The stage's worker; leaves a line with begin and end of each shard."""

    def start_engine(self) -> Engine:
        engine = ForcedEngine(self.policy.path, self.recipe.placement.sampling)
        engine.kind = self.recipe.name
        return engine

    async def process(self, index: int) -> dict[str, float]:
        begun = time.time()
        counts = await super().process(index)
        with Path(self.output.uri, "times").open("a") as file:
            file.write(json.dumps([begun, time.time()]) + "\n")
        return counts


def recipe_of(kind: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": kind,
            "problems": {"train": 1, "validation": 1, "test": 1},
            "sampling": {"policy": "base", "samples": SAMPLES, "max_tokens": 160, "problems_per_shard": 8},
            "placement": {"sampling": {"kv_cache_gib": 0.5, "concurrent_shards": 4}},
        }
    )


def stage_rate(kind: str, source: Output, folder: str) -> float:
    """Tokens a second of the whole stage."""
    output = Output(folder, f"sampling-{kind}", "k")
    definition = Stage("sampling", sampling.run, {}, options={"problems": "problems", "policy": "base"})
    with open(os.devnull, "w") as nowhere:
        context = StageContext(definition, recipe_of(kind), {"problems": source}, output, Progress("sampling", nowhere))
        sampling.run(context, TimedWorker)
    times = [json.loads(line) for line in Path(output.uri, "times").read_text().splitlines()]
    return output.counts()["tokens"] / (max(end for _, end in times) - min(begin for begin, _ in times))


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

    In one process it shares a core with its own tokenizer work; in several, its default, it pays for messages. Which is
    faster depends on the machine: both are measured, the better is the peer.
    """

    def __init__(self, processes: str) -> None:
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


def tokens_to_quotas(problems: int) -> tuple[int, int]:
    """Tokens written by sample_until and by plain sampling on problems of mixed difficulty, scripted.

    32 samples at most, 4 correct and 2 incorrect wanted; success rates evenly from 0.05 to 0.95. Tokens of
    aborted requests count as far as they were written.
    """
    settings = SamplingSettings(samples=32, max_tokens=512, until=Until(correct=4, incorrect=2))
    rates = [0.05 + 0.9 * n / (problems - 1) for n in range(problems)]

    def script(request: Request) -> Completion:
        rng = random.Random(request.seed)
        right = rng.random() < rates[request.prompt_token_ids[0]]
        tokens = tuple(rng.randrange(9) for _ in range(length("lognormal", request.seed)))
        return Completion(tokens, "1" if right else "0", "stop")

    async def judge(problem: Problem, trace: Any) -> Verdict:
        return Verdict(trace.id, "correct" if trace.text == "1" else "incorrect", trace.text, "scripted", "none", 0.0)

    def asked() -> list[Problem]:
        return [Problem(f"p{n}", "", "1", "train", "scripted") for n in range(problems)]

    async def until() -> int:
        engine = ScriptedEngine(script, latency=lambda r: length("lognormal", r.seed) / 5000, slots=256)
        found = [Search(engine, p, [n], settings, 0, "pol", judge) for n, p in enumerate(asked())]
        await sample_until(found, 32, 32)
        return engine.tokens

    async def plain() -> int:
        engine = ScriptedEngine(script)
        for n, problem in enumerate(asked()):
            await sample_n(engine, problem, [n], settings, 0, "pol")
        return engine.tokens

    return asyncio.run(until()), asyncio.run(plain())


def measure(problems: int, rounds: int, folder: str) -> list[Row]:
    """The best rate of each, of `rounds` in turn: what else runs on the machine can only slow one down."""
    from app.problems.world import World, make_problems

    source = Output(folder, "problems", "k")
    source.write_shard(0, Problem.table(make_problems(0, problems, "train", World())))
    raws = [ray.remote(RawEngine).options(num_cpus=0).remote(processes) for processes in ("0", "1")]
    rows = []
    for kind in LENGTHS:
        requests = requests_of(kind, source)
        for raw in raws:
            ray.get(raw.rate.remote(requests[: len(requests) // 8]))  # warm
        rates: dict[str, list[float]] = {"raw-vllm": [], "ray.data.llm": [], "stage": []}
        for number in range(rounds):
            rates["raw-vllm"] += [ray.get(raw.rate.remote(requests)) for raw in raws]
            rates["stage"].append(stage_rate(kind, source, f"{folder}/{number}"))
            rates["raw-vllm"] += [ray.get(raw.rate.remote(requests)) for raw in raws]
            if kind == "fixed":
                rates["ray.data.llm"].append(ray_data_llm_rate(requests))
        for name, found in rates.items():
            print(f"{kind} lengths, {name}: {', '.join(f'{rate:,.0f}' for rate in found)} tokens/s", flush=True)
        for peer in ("raw-vllm", "ray.data.llm"):
            if rates[peer]:
                rows.append(
                    row(f"sampling stage, {kind} lengths", max(rates["stage"]), "tokens/s", peer, max(rates[peer]))
                )
    return rows


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder, ray_session():
        rows = measure(24, 1, folder) if options.quick else measure(128, 2, folder)
    tokens, plain = tokens_to_quotas(60 if options.quick else 300)
    rows.append(
        row("tokens to 4 correct and 2 incorrect, scripted", tokens, "tokens", "plain", plain, lower_is_better=True)
    )
    publish(rows, options.json)


if __name__ == "__main__":
    main()
