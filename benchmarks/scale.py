"""Measure what one shard costs the parts that do not scale out, and work out where a large cluster is full.

    python -m benchmarks.scale [--quick] [--json FILE] [--gpus 1000] [--tokens 10000] [--hours 24] ...

The measured costs are of this machine; the load is the question; benchmarks/scale_model.py names every assumption.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

from app.cluster import ray_session
from app.progress import Progress
from app.records import Problem, Trace
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


class Idle:
    """A shard worker that does nothing: what is left is the driver's own work."""

    async def process(self, index: int) -> dict[str, float]:
        return {"traces": 1.0}


def slope(cost: Callable[[int], float], few: int, many: int) -> float:
    """Cost of one more, free of what it costs to begin."""
    cost(few)  # the first run also pays for imports and first processes
    low, high = cost(few), cost(many)
    return max(high - low, 1e-9) / (many - few)


def driver_seconds(few: int, many: int) -> float:
    """Processor seconds of the driver for one shard of `map_shards`."""
    from app.shardmap import Pool, map_shards

    def cost(shards: int) -> float:
        progress = Progress("driver's cost of a shard")
        progress.begin(shards)
        start = time.process_time()
        map_shards(Idle, (), range(shards), Pool(actors=2, cpus=0.5, concurrency=2), progress)
        return time.process_time() - start

    return slope(cost, few, many)


def block_costs(many: int) -> tuple[float, float]:
    """Processor seconds and resident bytes of the driver for one pending shard, as `map_shards` hands them over."""
    import ray

    ray.data.from_items([{"shard": 0}], override_num_blocks=1)
    process = psutil.Process()
    memory, start = process.memory_info().rss, time.process_time()
    held = ray.data.from_items([{"shard": index} for index in range(many)], override_num_blocks=many)
    seconds, grown = time.process_time() - start, process.memory_info().rss - memory
    del held
    return seconds / many, max(grown, 0) / many


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


def storage_costs(shards: int, load: Load) -> tuple[float, float]:
    """Bytes a token, and seconds a shard to read all footers; on the local disk."""
    tokens = round(load.trace_tokens)
    table = Trace.table(traces(256, tokens))
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder, "sampling", "scale")
        for index in range(shards):
            output.write_shard(index, table, {"traces": 256.0})
        size = sum(path.stat().st_size for path in output.local().glob("part-*"))
        start = time.perf_counter()
        output.written()
        footer = (time.perf_counter() - start) / shards
    return size / (shards * 256 * tokens), footer


def problem_bytes(number: int) -> float:
    """Resident bytes of one problem with its solution, of GSM8K's length."""
    process = psutil.Process()
    before = process.memory_info().rss
    held = [Problem(f"{n:024x}", f"{n} " * 45, str(n), "train", "made-up", f"{n} " * 55) for n in range(number)]
    grown = process.memory_info().rss - before
    del held
    return grown / number


def verdict_seconds(number: int, load: Load) -> float:
    """Seconds of one core for one verdict on a number; `benchmarks.verification` has harder answers."""
    texts = [trace.text for trace in traces(number, round(load.trace_tokens))]
    start = time.perf_counter()
    judge_batch([str(index % 5) for index in range(number)], texts, [""] * number)
    return (time.perf_counter() - start) / number


def measure(load: Load, quick: bool) -> Costs:
    """The costs of this machine. Starts a private Ray."""
    per_token, footer = storage_costs(20 if quick else 100, load)
    problem = problem_bytes(100_000)
    verdict = verdict_seconds(200 if quick else 1000, load)
    with ray_session():
        driver = driver_seconds(50, 250 if quick else 1050)
        block_time, block_bytes = block_costs(1000 if quick else 5000)
    return Costs(driver, block_time, block_bytes, per_token, footer, problem, verdict)


def rows(load: Load, costs: Costs) -> list[Row]:
    """Measured costs, then each limit as the GPUs at which it is full."""
    measured = [
        row("driver, one shard", costs.driver_seconds * 1e3, "ms"),
        row("driver, one pending shard", costs.block_seconds * 1e3, "ms"),
        row("driver, one pending shard", costs.block_bytes / 1e3, "kB"),
        row("Parquet, one token", costs.bytes_per_token, "bytes"),
        row("Parquet, one footer", costs.footer_seconds * 1e3, "ms"),
        row("one problem in memory", costs.problem_bytes / 1e3, "kB"),
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
    lines.append("\nproblems a shard: shards/s, use of the driver, files, seconds lost with a node")
    for size in (1, 4, 8, 16, 32, 64, 128):
        other = Load(**{**load.__dict__, "problems_per_shard": size})
        lines.append(
            f"  {size:4d}: {other.shards_per_second:8.1f}  {other.shards_per_second * costs.driver_seconds:8.1%}  "
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
