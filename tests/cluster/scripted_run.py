"""A job of two stages for a cluster of tests: scripted engine actors sample, verifier actors judge, shard by shard.

    python scripted_run.py RUNS [SECONDS_A_TRACE]

Everything but the engine is the product's own: shard map, programs, records, store, verifier.
"""

from __future__ import annotations

import asyncio
import os
import sys

from app.progress import Progress
from app.records import Problem, Trace, Verdict, chunked, digest
from app.sampling.requests import sample_n
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import SamplingSettings
from app.shard_stats import Receipt
from app.shardmap import Pool, map_shards
from app.store import Output
from app.verification.stage import VerificationWorker
from tests.judging import judge_traces

SETTINGS = SamplingSettings(samples=4, problems_per_shard=2)
PROBLEMS = [Problem(digest(i), f"What is {i} mod 4?", str(i % 4), "train", "test", None, "{}") for i in range(80)]
ACTORS = int(os.environ.get("SCRIPTED_ACTORS", "4"))
GPUS = float(os.environ.get("SCRIPTED_GPUS", "0"))  # a sampling actor
ROLES = "SCRIPTED_ROLES" in os.environ  # whether each stage keeps to nodes of its role, as in cluster.yaml


def outputs(runs: str) -> tuple[Output, Output, Output]:
    """Problems, traces and verdicts of the run."""
    return Output(runs, "problems", "k"), Output(runs, "sampling", "k"), Output(runs, "verification", "k")


class ScriptedWorker:
    """Shard i = the i-th slice of PROBLEMS; each trace takes `seconds`."""

    def __init__(self, output: Output, seconds: float) -> None:
        self.output = output
        self.engine = ScriptedEngine(latency=lambda _request: seconds, slots=8)
        self.shards = chunked(PROBLEMS, SETTINGS.problems_per_shard)

    async def process(self, index: int) -> Receipt:
        pairs = [
            pair
            for problem in self.shards[index]
            for pair in await sample_n(self.engine, problem, [1, 2, 3], SETTINGS, 0, "scripted")
        ]
        counts = {"traces": float(len(pairs))}
        return self.output.write_shard(index, Trace.table(trace for trace, _ in pairs), counts)


def run(runs: str, seconds: float) -> None:
    """Both stages on the Ray that RAY_ADDRESS names; finished shards are not done again."""
    import ray

    ray.init(log_to_driver=False)
    problems, traces, verdicts = outputs(runs)
    problems.write_shard(0, Problem.table(PROBLEMS))
    shards = len(chunked(PROBLEMS, SETTINGS.problems_per_shard))
    sampling = Pool(ACTORS, 1, GPUS, concurrency=2, labels={"role": "sampler"} if ROLES else {})
    verifying = Pool(2, 1, labels={"role": "verifier"} if ROLES else {})
    pending = [i for i in range(shards) if i not in traces.done_shards()]
    print(f"sampling: {len(pending)} of {shards} shards to do", flush=True)
    map_shards(ScriptedWorker, (traces, seconds), pending, sampling, Progress("sampling"))
    pending = [i for i in range(shards) if i not in verdicts.done_shards()]
    map_shards(VerificationWorker, (problems, traces, verdicts), pending, verifying, Progress("verification"))
    print("done", flush=True)


def ids_without_a_cluster(runs: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What the run must end with: ids of traces, and (id, outcome) of verdicts, worked out in this process."""
    _, traces, _ = outputs(runs)
    worker = ScriptedWorker(traces, 0.0)

    async def sample() -> None:
        for index in range(len(worker.shards)):
            await worker.process(index)

    asyncio.run(sample())
    found = Trace.from_table(traces.read())
    verdicts = judge_traces(found, {p.id: p for p in PROBLEMS})
    return [t.id for t in found], [(v.trace_id, v.outcome) for v in verdicts]


def ids(runs: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What the run did end with, shard after shard; a row written twice shows up twice."""
    _, traces, verdicts = outputs(runs)
    judged = Verdict.from_table(verdicts.read())
    return [t.id for t in Trace.from_table(traces.read())], [(v.trace_id, v.outcome) for v in judged]


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
