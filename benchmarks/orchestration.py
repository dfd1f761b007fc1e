"""Everything but the engine: scripted traces through sampling, verification and writing, on a real local Ray.

    python -m benchmarks.orchestration [--quick] [--json FILE]

The traces are made up by benchmarks/scripted_traces.py: lines of sums in the manner of GSM8K, 59 to 305 tokens (140 on
average), right three times in four. "From the start" holds all: Ray Data's start, the start of two actors a stage, both
stages. "Steady" is what more traces cost: the difference between the long and the short run.

The peer `plain` is a loop in one process that makes and judges the same traces and writes them to one Parquet file a
shard, with no Ray, no programs and no engine protocol: what the work costs at the least.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.entry import begin

if __name__ == "__main__":
    begin("stopped")

import pyarrow.parquet as pq

from app.cluster import ray_session
from app.problems.select import write_problems
from app.progress import Progress
from app.recipe import Recipe
from app.records import Trace, Verdict, chunked, seed_from
from app.sampling import stage as sampling
from app.sampling.engine import Engine, Request
from app.sampling.scripted import ScriptedEngine
from app.stage import Stage, StageContext
from app.store import Output
from app.verification import stage as verification
from benchmarks.scripted_traces import problems, prompt_ids, script
from benchmarks.table import arguments, publish, row
from tests.judging import judge_traces

SAMPLES = 64  # a problem
PROBLEMS_PER_SHARD = 32


class ScriptedRenderer:
    """In place of a tokenizer."""

    def prompt_ids(self, statement: str) -> list[int]:
        return prompt_ids(statement)

    def decode(self, ids: list[int]) -> str:
        """Asked for where a trace was cut and goes on; the script's come to their own end."""
        raise NotImplementedError


class ScriptedWorker(sampling.SamplingWorker):
    """The stage's worker with a script in place of tokenizer and model."""

    def start_renderer(self) -> Any:
        return ScriptedRenderer()

    def start_engine(self) -> Engine:
        return ScriptedEngine(script)


@dataclass(frozen=True)
class Measured:
    traces: int
    seconds: float
    memory: float  # MiB, the driver's largest resident size while it ran
    halves: tuple[float, float] = (0.0, 0.0)  # µs a trace in each half of the work, starts left out

    @property
    def rate(self) -> float:
        return self.traces / self.seconds


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    small, large = (10_000, 40_000) if options.quick else (100_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder, ray_session():
        through(4 * PROBLEMS_PER_SHARD * SAMPLES, folder, "warm")  # imports and the first worker processes
        few = through(small, folder, "few")
        many = through(large, folder, "many")
    with tempfile.TemporaryDirectory() as folder:
        base = plain(min(large, 50_000), folder)
    publish(
        [
            row("sampling, verification and writing, from the start", many.rate, "traces/s", "plain", base.rate),
            row("sampling, verification and writing, steady", steady(few, many), "traces/s", "plain", base.rate),
            row(
                f"cost a trace at {large:,}",
                1e6 / many.rate,
                "µs",
                f"at {small:,}",
                1e6 / few.rate,
                lower_is_better=True,
            ),
            row(
                f"cost a trace in the second half of {large:,}",
                many.halves[1],
                "µs",
                "the first half",
                many.halves[0],
                lower_is_better=True,
            ),
            row(f"driver's memory at {large:,}", many.memory, "MiB", f"at {small:,}", few.memory, lower_is_better=True),
        ],
        options.json,
    )


class Clock:
    """When shards were done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def begin(self, pending: int, unit: str) -> None:
        """Nothing to note: what passes before the first shard is done is no cost of a trace."""

    def done(self, pieces: int, counts: dict[str, float]) -> None:
        self.times.append(time.perf_counter())

    def halves(self) -> tuple[float, float]:
        """Seconds from the first shard to the middle one, and from there to the last."""
        middle = self.times[len(self.times) // 2]
        return middle - self.times[0], self.times[-1] - middle


def steady(few: Measured, many: Measured) -> float:
    """Traces a second of the traces that the longer run has more."""
    return (many.traces - few.traces) / (many.seconds - few.seconds)


def through(traces: int, folder: str, name: str) -> Measured:
    """Sampling and then verification of `traces` scripted traces, as the pipeline runs them."""
    source = Output(folder, name + "/problems", "k")
    write_problems(source, problems(traces // SAMPLES), {})
    recipe = Recipe.model_validate(
        {
            "name": "orchestration",
            "problems": {"train": 1, "validation": 1, "test": 1},
            "sampling": {"samples": SAMPLES, "problems_per_shard": PROBLEMS_PER_SHARD},
            "placement": {
                "sampling": {"actors": 2, "cpus": 1, "concurrent_shards": 1},
                "verification": {"actors": 2, "cpus": 1},
            },
        }
    )
    outputs, clocks = {"problems": source}, []
    with largest_memory() as memory:
        begun = time.perf_counter()
        for stage, run in (("sampling", sample), ("verification", verification.run)):
            outputs[stage] = Output(folder, f"{name}/{stage}", "k")
            definition = Stage(stage, run, {}, options={"policy": recipe.model})
            clocks.append(Clock())
            with open(os.devnull, "w") as nowhere:
                progress = Progress(stage, nowhere, watcher=clocks[-1])
                run(StageContext(definition, recipe, dict(outputs), outputs[stage], progress))
        seconds = time.perf_counter() - begun
    done = int(outputs["verification"].counts()["verdicts"])
    if done != traces // SAMPLES * SAMPLES:
        raise RuntimeError(f"{done} verdicts of {traces} traces")
    first, second = (sum(half) * 1e6 / (done / 2) for half in zip(*(clock.halves() for clock in clocks), strict=True))
    return Measured(done, seconds, memory[0], (first, second))


def sample(context: StageContext) -> None:
    sampling.run(context, ScriptedWorker)


@contextlib.contextmanager
def largest_memory() -> Iterator[list[float]]:
    """This process's largest resident size in MiB while the block runs, looked at ten times a second."""
    found, stop = [0.0], threading.Event()

    def watch() -> None:
        page = resource.getpagesize() / 2**20
        while not stop.wait(0.1):
            found[0] = max(found[0], int(Path("/proc/self/statm").read_text().split()[1]) * page)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def plain(traces: int, folder: str) -> Measured:
    """The same traces by a plain loop over two processes' worth of work in one: make, judge, write."""
    begun = time.perf_counter()
    _plain(traces, folder)
    return Measured(traces // SAMPLES * SAMPLES, time.perf_counter() - begun, 0.0)


def _plain(traces: int, folder: str) -> None:
    for number, shard in enumerate(chunked(problems(traces // SAMPLES), PROBLEMS_PER_SHARD)):
        made = []
        for problem in shard:
            for sample_number in range(SAMPLES):
                name = f"{problem.id}-{sample_number}"
                request = Request(name, tuple(prompt_ids(problem.statement)), seed_from(name), 512)
                done = script(request)
                made.append(
                    Trace(
                        name,
                        problem.id,
                        sample_number,
                        request.seed,
                        "base",
                        list(request.prompt_token_ids),
                        list(done.token_ids),
                        done.text,
                        done.finish_reason,
                    )
                )
        verdicts = judge_traces(made, {p.id: p for p in shard})
        pq.write_table(Trace.table(made), f"{folder}/traces-{number}.parquet", compression="zstd")
        pq.write_table(Verdict.table(verdicts), f"{folder}/verdicts-{number}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
