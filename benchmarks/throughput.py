"""What a cluster does with a recipe: sampling against the raw engine, verification, training. For your own machines.

    python -m benchmarks.throughput [--recipe R] [--set KEY=VALUE]... [--runs DIR] [--quick] [--json FILE]

Runs on the cluster that RAY_ADDRESS or `ray job submit` names, else on this machine, with the recipe's model, sampling,
training and placement. Rates count from the first shard's (or step's) begin to the last one's end, so loading is not in
them; it has a row of its own. DIR must be seen by all nodes when training runs on several. The raw engine is vLLM's
LLM.generate in one actor, with an engine's share of the same requests.

MFU needs a peak: `placement.training.peak_tflops`, or a GPU known to app/training/flops.py; on a CPU a large matrix
product is timed instead, in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

import ray
from pyarrow.fs import FileSelector

from app.cluster import ray_session
from app.graph import build
from app.hub import pinned
from app.pipeline import run as run_pipeline
from app.plan import plan
from app.policy import base_policy
from app.problems.select import problems_of
from app.progress import Progress
from app.recipe import Recipe, load
from app.records import Example, Trace
from app.rendering import Renderer
from app.sampling import stage as sampling
from app.sampling.requests import sample_request
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.sampling.vllm import cpu_environment
from app.shard_stats import Receipt
from app.shardmap import Pool, map_shards
from app.stage import Stage, StageContext
from app.store import Output
from app.training import launch
from app.training.metrics import read as read_metrics
from app.training.settings import TrainSettings
from app.verification.stage import VerificationWorker
from benchmarks.table import Row, arguments, folder, publish, row
from jobs.run import find_recipe

STEPS = 8  # of training; the first two warm up
SIDE = 2048  # of the matrices whose product is timed


class Timed:
    """Leaves begin and end of each shard beside the worker's output."""

    output: Output

    async def process(self, index: int) -> Receipt:
        begun = time.time()
        receipt: Receipt = await super().process(index)  # type: ignore[misc]
        with self.output.atomic(f"times-{index}.json") as sink:
            sink.write(json.dumps([begun, time.time()]).encode())
        return receipt


class TimedSampler(Timed, sampling.SamplingWorker):
    """The sampling stage's worker."""


class TimedVerifier(Timed, VerificationWorker):
    """The verification stage's worker."""


def span(output: Output) -> tuple[float, float]:
    """When the first shard began and the last one ended."""
    fs, folder = output.open()
    names = [info.base_name for info in fs.get_file_info(FileSelector(folder))]
    times = [output.read_json(name) for name in names if name.startswith("times-")]
    return min(begin for begin, _ in times), max(end for _, end in times)


def smaller(recipe: Recipe, quick: bool) -> Recipe:
    """The recipe cut down to what is measured: enough shards for every engine, and a few training steps."""
    place = recipe.placement.sampling
    asked = (recipe.sampling or SamplingSettings()).model_copy(update={"stopping": None})
    in_flight = place.actors * place.concurrent_shards
    shard = min(asked.problems_per_shard, max(1, (2 if quick else 4) * place.max_num_seqs // asked.samples))
    known = next((run.training for run in recipe.trained().values() if type(run.training) is TrainSettings), None)
    given = known.model_dump(exclude_unset=True) if known else {}
    changed = {"epochs", "evaluate_every", "patience", "gate"}
    own = {key: value for key, value in given.items() if key not in changed} | {"steps": STEPS}
    return recipe.model_copy(
        update={
            "name": "throughput",
            "synthesis": None,
            "credit": None,
            "sampling": asked.model_copy(update={"problems_per_shard": shard}),
            "problems": recipe.problems.model_copy(update={"train": shard * in_flight * (1 if quick else 3)}),
            "policies": {},
            "training": {},
            "runs": {"sft": {"method": "sft", **own}},
        }
    )


class Bench:
    """The measured stages, one after the other, under one root."""

    def __init__(self, recipe: Recipe, root: str) -> None:
        self.recipe, self.root = recipe, root
        run_pipeline(recipe, root, only="problems")
        keys = {step.stage.name: step.output for step in plan(build(recipe), root)}
        self.problems = keys["problems"]
        self.traces, self.verdicts = Output(root, "sampling/base", "bench"), Output(root, "verification/base", "bench")

    def context(self, name: str, inputs: dict[str, Output], output: Output, **options: Any) -> StageContext:
        stage = Stage(name, lambda _context: None, {}, options=options)
        return StageContext(stage, self.recipe, inputs, output, Progress(name))

    def sampling(self) -> list[Row]:
        """Tokens a second of the stage, a device, and against the raw engine."""
        place, begun = self.recipe.placement.sampling, time.time()
        inputs = {"problems": self.problems}
        options = {"policy": self.recipe.model}
        sampling.run(self.context("sampling/base", inputs, self.traces, **options), TimedSampler)
        first, last = span(self.traces)
        rate = self.traces.counts()["tokens"] / (last - first)
        device, number = ("GPU", place.gpus) if place.gpus else ("CPU", place.cpus)
        raw = self.raw_rate(place)
        return [
            row("sampling, whole pool", rate, "tokens/s"),
            row(f"sampling, a {device}", rate / (place.actors * max(number, 1e-9)), "tokens/s"),
            row("sampling, an engine", rate / place.actors, "tokens/s", "raw-vllm", raw),
            row("engines' start", first - begun, "s"),
        ]

    def raw_rate(self, place: EnginePlacement) -> float:
        """Tokens a second of the raw engine, with one engine's share of the stage's requests."""
        policy, settings = base_policy(self.recipe.model), self.recipe.sampling
        assert settings
        renderer = Renderer(policy.path, self.recipe.rendering, self.recipe.model.revision)
        found = []
        for problem in problems_of(self.problems, "train")[:: place.actors]:
            ids = renderer.prompt_ids(problem.statement)
            for sample in range(settings.samples):
                request = sample_request(problem, ids, sample, settings, self.recipe.seed, policy.fingerprint)
                found.append((ids, request.seed))
        labels = {"label_selector": dict(place.labels)} if place.labels else {}
        actor = ray.remote(RawEngine).options(num_cpus=place.cpus, num_gpus=place.gpus, **labels)
        engine = actor.remote(policy.path, place, self.recipe.model.trust_remote_code)
        ray.get(engine.rate.remote(found[: max(1, len(found) // 8)], settings))  # warm
        rate = ray.get(engine.rate.remote(found, settings))
        ray.kill(engine)
        return rate

    def verification(self) -> list[Row]:
        """Traces a second of the verifiers."""
        place = self.recipe.placement.verification
        pool = Pool.of(place, "placement.verification")
        shards, progress = self.traces.done_shards(), Progress("verification")
        progress.begin(len(shards))
        map_shards(TimedVerifier, (self.problems, self.traces, self.verdicts), shards, pool, progress)
        first, last = span(self.verdicts)
        rate = self.verdicts.counts()["verdicts"] / (last - first)
        return [
            row("verification, whole pool", rate, "traces/s"),
            row("verification, an actor", rate / place.actors, "traces/s"),
        ]

    def training(self) -> list[Row]:
        """Tokens a second and MFU of SFT on the sampled traces."""
        place = self.recipe.placement.training
        recipe = self.recipe
        device = "GPU" if place.gpus else "CPU"
        if not place.gpus and place.peak_tflops is None:
            threads = max(1, int(place.cpus))
            peak = ray.get(ray.remote(matrix_rate).options(num_cpus=place.cpus).remote(threads))
            placement = recipe.placement.model_copy(update={"training": place.model_copy(update={"peak_tflops": peak})})
            recipe = recipe.model_copy(update={"placement": placement})
        data, output = Output(self.root, "datasets/sft", "bench"), Output(self.root, "training/sft", "bench")
        data.write_shard(0, Example.table(self.examples()))
        data.finish({"key": "bench", "inputs": {}, "folders": {}, "settings": {}, "counts": {}})
        options = {"settings": self.settings(), "start": recipe.model, "reference": None, "method": "sft"}
        context = self.context("training/sft", {"dataset": data}, output, **options)
        launch.run(StageContext(context.stage, recipe, context.inputs, output, context.progress))
        steps = read_metrics(output.local("metrics.jsonl"))[2:]
        tokens = statistics.median(step["useful_tokens_per_second"] for step in steps)
        rows = [
            row("training, whole pool", tokens, "tokens/s"),
            row(f"training, a {device} worker", tokens / place.workers, "tokens/s"),
        ]
        if "mfu" in steps[0]:
            rows.append(row("training, MFU", 100 * statistics.median(step["mfu"] for step in steps), "%"))
        return rows

    def settings(self) -> TrainSettings:
        """Of the one run that `smaller` left."""
        found = self.recipe.trained()["sft"].training
        assert found
        return found

    def examples(self) -> list[Example]:
        """Every trace as an example, again and again until the steps have enough."""
        settings = self.settings()
        traces = [t for table in self.traces.tables() for t in Trace.from_table(table) if t.token_ids]
        wanted = settings.batch * STEPS
        return [
            Example(f"{index}", t.problem_id, t.id, t.prompt_token_ids, t.token_ids, "", t.text)
            for index, t in ((index, traces[index % len(traces)]) for index in range(wanted))
        ]


class RawEngine:
    """vLLM's own offline class, in our engine's environment."""

    def __init__(self, model: str, place: EnginePlacement, trust_remote_code: bool) -> None:
        os.environ.update({} if place.gpus else cpu_environment(place))
        from vllm import LLM

        # On a CPU chunked prefill fails with seeds (its generator has no offset): our engine goes without it there too.
        device: dict[str, Any] = {
            "kv_cache_memory_bytes": int(place.kv_cache_gib * 2**30),
            "enable_chunked_prefill": False,
        }
        if place.gpus:
            device = {"gpu_memory_utilization": place.memory, "tensor_parallel_size": max(1, int(place.gpus))}
        self.llm = LLM(
            model,
            trust_remote_code=trust_remote_code,
            dtype=place.dtype,
            max_model_len=place.max_model_len,
            max_num_seqs=place.max_num_seqs,
            enforce_eager=place.eager,
            enable_prefix_caching=True,
            generation_config="vllm",
            **device,
        )

    def rate(self, requests: list[tuple[list[int], int]], settings: SamplingSettings) -> float:
        """Tokens a second of one call of generate. `requests` are prompts and seeds."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": list(ids)} for ids, _ in requests]
        parameters = [
            SamplingParams(
                temperature=settings.temperature, top_p=settings.top_p, seed=seed, max_tokens=settings.max_tokens
            )
            for _, seed in requests
        ]
        self.llm.reset_prefix_cache()
        begun = time.perf_counter()
        outputs = self.llm.generate(prompts, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.perf_counter() - begun)


def matrix_rate(threads: int) -> float:
    """TFLOP/s of a large float32 matrix product on this machine's CPU: the best of five."""
    import torch

    torch.set_num_threads(threads)
    one, best = torch.rand(SIDE, SIDE), 0.0
    for _ in range(5):
        begun = time.perf_counter()
        one @ one
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - begun) / 1e12)
    return best


def options_of(argv: list[str] | None = None) -> argparse.Namespace:
    parser = arguments((__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="demo", help="a recipe's file, or the name of one in jobs/recipes (demo)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of it")
    parser.add_argument(
        "--runs", type=folder, metavar="DIR", help="folder that all nodes see (default: a temporary one here)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    options = options_of(argv)
    recipe = smaller(load(find_recipe(options.recipe), options.set), options.quick)
    with ray_session(), tempfile.TemporaryDirectory(prefix="throughput-", dir=options.runs) as root:
        bench = Bench(pinned(recipe, root), root)
        rows = [*bench.sampling(), *bench.verification(), *bench.training()]
    publish(rows, options.json)


if __name__ == "__main__":
    main()
