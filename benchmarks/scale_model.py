"""What a large cluster asks of its weakest parts: pure arithmetic from stated inputs (docs/scale.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Load:
    """What is asked for. None of these is measured: they are the question."""

    gpus: int = 1000
    tokens_per_second: float = 10_000.0  # a GPU, with one engine a GPU
    gpus_per_node: int = 8
    hours: float = 24.0
    trace_tokens: float = 300.0
    samples: int = 64  # traces a problem
    problems_per_shard: int = 32
    concurrent_shards: int = 2  # in flight in each engine actor

    @property
    def shard_tokens(self) -> float:
        return self.problems_per_shard * self.samples * self.trace_tokens

    @property
    def shards_per_second(self) -> float:
        return self.gpus * self.tokens_per_second / self.shard_tokens

    @property
    def shards(self) -> int:
        """Shards of the whole stage."""
        return math.ceil(self.shards_per_second * self.hours * HOUR)

    @property
    def problems(self) -> int:
        return self.shards * self.problems_per_shard

    @property
    def traces(self) -> int:
        return self.problems * self.samples

    @property
    def places(self) -> int:
        """Shards in flight in all engines."""
        return min(self.shards, self.gpus * self.concurrent_shards)

    @property
    def traces_per_second(self) -> float:
        return self.gpus * self.tokens_per_second / self.trace_tokens


@dataclass(frozen=True)
class Costs:
    """What each thing costs. `benchmarks.scale` measures the first group; the second is assumed."""

    driver_seconds: float  # of the driver's processor for one shard
    queue_seconds: float  # of the queue's processor, beside the driver's, for one shard
    place_seconds: float  # of the driver's processor to hand one place to Ray Data at the start
    pending_bytes: float  # of the driver's and the queue's memory for the number of one pending shard
    bytes_per_token: float  # of Parquet on disk, text included
    footer_seconds: float  # of wall time a shard, to read all footers on a local disk by many threads
    trace_seconds: float  # of one core, to read one trace as a record
    world_seconds: float  # of one process, to make one problem of the world and write it
    story_bytes: float  # of memory, one problem of the world in that process
    problem_bytes: float  # of memory, one problem of a file in the process that reads it
    statement_bytes: float  # of memory, one statement in synthesis's index of near duplicates
    verdict_seconds: float  # of one verifier's core for one trace

    actor_seconds: float = 0.005  # assumed: of the control plane to start one actor
    engine_load_seconds: float = 180.0  # assumed: 7B weights from a warm disk, and the engine's warm-up
    lost_per_node_hour: float = 0.05  # assumed: spot nodes taken back, as a share of nodes an hour
    node_start_seconds: float = 300.0  # assumed: instance, image, Ray
    store_put_per_second: float = 3500.0  # documented by S3 for one prefix
    store_request_seconds: float = 0.03  # assumed: one small read from object storage
    footer_requests: int = 3  # of object storage a footer: its size, its length, itself
    footer_readers: int = 32  # app.store.READERS
    store_list_per_second: float = 10_000.0  # assumed: 1,000 names a request, 0.1 s a request
    head_memory_bytes: float = 16e9  # half of an m7i.2xlarge, the rest for the control plane
    gcs_nodes: float = 2000.0  # documented by Ray as tested


@dataclass(frozen=True)
class Limit:
    """One part of the system at the load asked for."""

    part: str
    needed: float
    available: float
    unit: str

    @property
    def use(self) -> float:
        """Share of what is available; above 1 it does not work."""
        return self.needed / self.available

    def gpus(self, load: Load) -> float:
        """GPUs at which this part is full, all else equal."""
        return load.gpus / self.use


def limits(load: Load, costs: Costs) -> list[Limit]:
    """Every part that grows with the cluster, the fullest first."""
    nodes = math.ceil(load.gpus / load.gpus_per_node)
    stage, allowance, memory = load.hours * HOUR, 0.01 * load.hours * HOUR, costs.head_memory_bytes
    found = [
        Limit("data sets, one process reads all traces", load.traces * costs.trace_seconds, stage, "s"),
        Limit("synthesis, memory of its index", load.problems * costs.statement_bytes, memory, "bytes"),
        Limit("problems of the world, time", load.problems * costs.world_seconds, allowance, "s"),
        Limit("problems of the world, memory", load.problems * costs.story_bytes, memory, "bytes"),
        Limit("problems of files, memory", load.problems * costs.problem_bytes, memory, "bytes"),
        Limit("queue, shards a second", load.shards_per_second, 1 / costs.queue_seconds, "shards/s"),
        Limit("driver, shards a second", load.shards_per_second, 1 / costs.driver_seconds, "shards/s"),
        Limit("driver and queue, memory of pending shards", load.shards * costs.pending_bytes, memory, "bytes"),
        Limit("driver, places at the start", load.places * costs.place_seconds, allowance, "s"),
        Limit("control plane, start of actors", load.gpus * costs.actor_seconds, allowance, "s"),
        Limit("resume, listing from S3", load.shards / costs.store_list_per_second, allowance, "s"),
        Limit("resume, footers of half the shards", footer_seconds(load, costs) / 2, stage / 2, "s"),
        Limit("object storage, writes", load.shards_per_second, costs.store_put_per_second, "files/s"),
        Limit("control plane, nodes", nodes + verifier_cores(load, costs) / 16, costs.gcs_nodes, "nodes"),
    ]
    return sorted(found, key=lambda limit: -limit.use)


def footer_seconds(load: Load, costs: Costs) -> float:
    """What it takes to read the footers of all shards in object storage, READERS at a time."""
    waiting = costs.footer_requests * costs.store_request_seconds / costs.footer_readers
    return load.shards * (costs.footer_seconds + waiting)


def verifier_cores(load: Load, costs: Costs) -> float:
    """Cores that keep up with the samplers."""
    return load.traces_per_second * costs.verdict_seconds


def loss_of_a_node(load: Load) -> float:
    """Seconds of its GPUs' work lost with a node: shards in flight are on average half done."""
    return load.concurrent_shards * load.shard_tokens / load.tokens_per_second / 2


def shares_lost(load: Load, costs: Costs) -> dict[str, float]:
    """Shares of the GPUs' time that preemption costs: unfinished shards, engines that load, nodes that start."""
    rate = costs.lost_per_node_hour / HOUR
    return {
        "unfinished shards": rate * loss_of_a_node(load),
        "engine loads": rate * costs.engine_load_seconds,
        "missing nodes": rate * costs.node_start_seconds,
    }


def restart_seconds(load: Load, costs: Costs) -> dict[str, float]:
    """What passes after the loss of the head until the GPUs are busy again."""
    return {
        "list finished shards": load.shards / 2 / costs.store_list_per_second,  # on average half are
        "hand places to Ray Data": load.places * costs.place_seconds,
        "start actors": load.gpus * costs.actor_seconds,
        "load engines": costs.engine_load_seconds,
        "repeat unfinished shards": loss_of_a_node(load),
    }
