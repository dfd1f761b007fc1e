"""Measure what one shard costs the parts that do not scale out, and work out where a large cluster is full.

    python -m benchmarks.scale [--quick] [--json FILE] [--gpus 1000] [--tokens 10000] [--hours 24] ...

The measured costs are of this machine; the load is the question; benchmarks/scale_model.py names every assumption.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import random
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

import psutil  # type: ignore[import-untyped]

from app.cluster import ray_session
from app.problems import select
from app.problems.overlap import NearIndex
from app.problems.world import each_problem
from app.progress import Progress
from app.records import Problem, Trace
from app.shard_stats import Receipt
from app.shardqueue import ShardQueue
from app.store import Output
from app.verification.judge import judge_batch
from benchmarks.scale_model import (
    Costs,
    Limit,
    Load,
    limits,
    loss_of_a_node,
    restart_seconds,
    shares_lost,
    verifier_cores,
)
from benchmarks.table import Row, arguments, publish, row

WORDS = 32_000  # of the made-up vocabulary
T = TypeVar("T")
COUNTED = ("traces", "prompt_tokens", "tokens", "truncated", "engine_seconds", "skipped_prompts")  # as sampling counts


class Idle:
    """A shard worker that does nothing: what is left is the driver's own work."""

    async def process(self, index: int) -> Receipt:
        return Receipt(index, 1, dict.fromkeys(COUNTED, 0.1), "0" * 32)


def slope(cost: Callable[[int], tuple[float, ...]], few: int, many: int) -> list[float]:
    """Costs of one more, free of what it costs to begin."""
    cost(few)  # the first run also pays for imports and first processes
    return [max(high - low, 1e-9) / (many - few) for low, high in zip(cost(few), cost(many), strict=True)]


def shard_seconds(few: int, many: int) -> list[float]:
    """Seconds for one shard of `map_shards`: of the driver's processor, of the queue's beside it, and in all."""
    from app.shardmap import Pool, map_shards

    def cost(shards: int) -> tuple[float, ...]:
        progress = Progress("cost of a shard")
        progress.begin(shards)
        with processor_seconds("ray::ShardQueue") as queue:
            start, begun = time.process_time(), time.perf_counter()
            map_shards(Idle, (), range(shards), Pool(actors=2, cpus=0.5, concurrency=2), progress)
            passed = time.process_time() - start, time.perf_counter() - begun
        return passed[0], queue[0], passed[1]

    return slope(cost, few, many)


@contextlib.contextmanager
def processor_seconds(title: str) -> Iterator[list[float]]:
    """Processor seconds of the process that begins with `title` while the block runs, looked at ten times a second."""
    found, stopped = [0.0], threading.Event()
    before = {process.pid for process in psutil.process_iter()}

    def watch() -> None:
        while not stopped.wait(0.1):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.pid not in before and "".join(process.cmdline()[:1]).startswith(title):
                        found[0] = sum(process.cpu_times()[:2])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()


def place_seconds(many: int) -> float:
    """Processor seconds of the driver to hand one place to Ray Data, as `map_shards` does."""
    import ray

    ray.data.from_items([{"place": 0}], override_num_blocks=1)
    start = time.process_time()
    held = ray.data.from_items([{"place": index} for index in range(many)], override_num_blocks=many)
    seconds = time.process_time() - start
    del held
    return seconds / many


def pending_bytes(shards: int) -> float:
    """Resident bytes of the driver and its queue for the number of one pending shard; half are there already."""
    process = psutil.Process()
    before = process.memory_info().rss
    done = set(range(0, shards, 2))
    pending = [index for index in range(shards) if index not in done]
    queue = ShardQueue(pickle.loads(pickle.dumps(pending)))
    grown = process.memory_info().rss - before
    del done, pending, queue
    return grown / shards


def traces(number: int, tokens: int) -> list[Trace]:
    """Traces with words as frequent as in text (Zipf), each token about a word and a space."""
    draw = random.Random(0)
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    words = [f"{draw.getrandbits(20):x} " for _ in range(WORDS)]
    found = []
    for index in range(number):
        ids = draw.choices(range(WORDS), weights, k=tokens)
        text = "".join(words[i] for i in ids) + f"\n#### {index % 7}"
        found.append(
            Trace(f"{index:024x}", f"{index // 8:024x}", index % 8, index, "policy", [1] * 60, ids, text, "stop")
        )
    return found


def storage_costs(shards: int, load: Load) -> tuple[float, float, float]:
    """Bytes a token, seconds a shard to read all footers, seconds a trace to read it; on the local disk."""
    tokens = round(load.trace_tokens)
    table = Trace.table(traces(256, tokens))
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder, "sampling", "scale")
        for index in range(shards):
            output.write_shard(index, table, dict.fromkeys(COUNTED, 0.1))
        size = sum(path.stat().st_size for path in output.local().glob("part-*"))
        start = time.perf_counter()
        output.written()
        footer = (time.perf_counter() - start) / shards
        start = time.perf_counter()
        for index in range(4):
            Trace.from_table(output.read_shard(index))
        trace = (time.perf_counter() - start) / (4 * 256)
    return size / (shards * 256 * tokens), footer, trace


def problem_bytes(number: int) -> float:
    """Resident bytes of one problem with its solution, of GSM8K's length."""
    process = psutil.Process()
    before = process.memory_info().rss
    held = [Problem(f"{n:024x}", f"{n} " * 45, str(n), "train", "made-up", f"{n} " * 55) for n in range(number)]
    grown = process.memory_info().rss - before
    del held
    return grown / number


def world_seconds(number: int) -> tuple[float]:
    """Seconds to make problems of the world, sort them in and write them."""
    select.SORTED, select.MERGED = 10_000, 25  # so that few problems show what many cost
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        select.write_problems(Output(folder, "problems", "scale"), each_problem(0, number, "train"), {})
        return (time.perf_counter() - start,)


def story_bytes(number: int) -> float:
    """Bytes that stay of one problem of the world, at most: as Python's allocator counts, because they are few."""
    tracemalloc.start()
    for _problem in each_problem(0, number, "train"):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / number


def alone(work: Callable[[int], T], number: int) -> T:
    """The same in a process of its own: what another measurement has freed would hide the growth of this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, number).result()


def index_bytes(number: int) -> float:
    """Resident bytes of one statement in the index of near duplicates."""
    statements = [problem.statement for problem in each_problem(1, number, "train")]
    index, process = NearIndex(0.8), psutil.Process()
    before = process.memory_info().rss
    for statement in statements:
        index.add(statement, "seed")
    return (process.memory_info().rss - before) / number


def verdict_seconds(number: int, load: Load) -> float:
    """Seconds of one core for one verdict on a number; `benchmarks.verification` has harder answers."""
    texts = [trace.text for trace in traces(number, round(load.trace_tokens))]
    start = time.perf_counter()
    judge_batch([str(index % 5) for index in range(number)], texts, [""] * number)
    return (time.perf_counter() - start) / number


def measure(load: Load, quick: bool) -> Costs:
    """The costs of this machine. Starts a private Ray."""
    world = slope(world_seconds, 40_000, 80_000 if quick else 160_000)[0]
    story = alone(story_bytes, 10_000 if quick else 50_000)
    held = alone(pending_bytes, 1_000_000)
    problem, statement = alone(problem_bytes, 100_000), alone(index_bytes, 5_000 if quick else 20_000)
    per_token, footer, trace = storage_costs(20 if quick else 100, load)
    verdict = verdict_seconds(200 if quick else 1000, load)
    with ray_session():
        driver, queue, _ = shard_seconds(500, 3_500 if quick else 20_500)
        place = place_seconds(1000 if quick else 5000)
    return Costs(driver, queue, place, held, per_token, footer, trace, world, story, problem, statement, verdict)


def rows(load: Load, costs: Costs) -> list[Row]:
    """Measured costs, then each limit as the GPUs at which it is full."""
    measured = [
        row("driver, one shard", costs.driver_seconds * 1e3, "ms"),
        row("queue, one shard", costs.queue_seconds * 1e3, "ms"),
        row("driver, one place", costs.place_seconds * 1e3, "ms"),
        row("driver and queue, one pending shard", costs.pending_bytes, "bytes"),
        row("Parquet, one token", costs.bytes_per_token, "bytes"),
        row("Parquet, one footer", costs.footer_seconds * 1e3, "ms"),
        row("one trace read", costs.trace_seconds * 1e6, "µs"),
        row("one problem of the world", costs.world_seconds * 1e6, "µs"),
        row("one problem of the world in memory", costs.story_bytes, "bytes"),
        row("one problem of a file in memory", costs.problem_bytes / 1e3, "kB"),
        row("one statement in the index of near duplicates", costs.statement_bytes / 1e3, "kB"),
        row("verifier, one numeric answer", costs.verdict_seconds * 1e3, "ms"),
    ]
    return measured + [row(f"full: {limit.part}", limit.gpus(load), "GPUs") for limit in limits(load, costs)]


def story(load: Load, costs: Costs) -> str:
    """The plan in words and figures."""
    lines = [
        f"\nload: {load.gpus:,} GPUs x {load.tokens_per_second:,.0f} tokens/s for {load.hours:g} h; traces of "
        f"{load.trace_tokens:g} tokens, {load.samples} a problem, {load.problems_per_shard} problems a shard, "
        f"{load.concurrent_shards} shards in flight an engine",
        f"that is {load.traces_per_second:,.0f} traces/s, {load.shards_per_second:.1f} shards/s, {load.shards:,} "
        f"shards of {load.shard_tokens * costs.bytes_per_token / 1e6:.1f} MB, "
        f"{load.shards * load.shard_tokens * costs.bytes_per_token / 1e12:.1f} TB; "
        f"{verifier_cores(load, costs):,.2g} verifier cores keep up",
        "\nuse of each part (above 100 % it does not work):",
    ]
    lines += [f"  {limit.use:8.1%}  {limit.part}: {figures(limit)}" for limit in limits(load, costs)]
    lines.append(f"\na lost node costs {loss_of_a_node(load):.0f} s of its GPUs' work; shares of all GPU time lost:")
    lines += [f"  {share:8.3%}  {what}" for what, share in shares_lost(load, costs).items()]
    lines.append("\nafter the loss of the head, in the middle of the stage:")
    lines += [f"  {seconds:8.0f} s  {what}" for what, seconds in restart_seconds(load, costs).items()]
    lines.append("\nproblems a shard: shards/s, use of the queue, files, seconds lost with a node")
    for size in (1, 4, 8, 16, 32, 64, 128):
        other = Load(**{**load.__dict__, "problems_per_shard": size})
        lines.append(
            f"  {size:4d}: {other.shards_per_second:8.1f}  {other.shards_per_second * costs.queue_seconds:8.1%}  "
            f"{other.shards:11,}  {loss_of_a_node(other):6.0f}"
        )
    return "\n".join(lines)


def figures(limit: Limit) -> str:
    return f"{limit.needed:,.4g} of {limit.available:,.4g} {limit.unit}"


def main(argv: list[str] | None = None) -> None:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--tokens", type=float, default=10_000, help="tokens/s of one GPU")
    parser.add_argument("--hours", type=float, default=24, help="how long the stage runs")
    parser.add_argument("--trace-tokens", type=float, default=300)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--problems-per-shard", type=int, default=32)
    args = parser.parse_args(argv)
    load = Load(
        args.gpus,
        args.tokens,
        hours=args.hours,
        trace_tokens=args.trace_tokens,
        samples=args.samples,
        problems_per_shard=args.problems_per_shard,
    )
    costs = measure(load, args.quick)
    publish(rows(load, costs), args.json)
    print(story(load, costs))


if __name__ == "__main__":
    main()
