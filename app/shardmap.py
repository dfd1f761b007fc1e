"""Run a worker over shards by Ray Data actors. The worker writes each shard itself; only counts come back.

Shards are deterministic slices of a stage's input, one output file each. A shard whose file exists is done: that is all
the state there is. Ray Data gives the actor pool, retries after lost actors and nodes, and autoscaling; it never
carries rows between stages, so the driver's memory does not grow with the data.

What may fail, and what follows: a UserError or any other exception of a worker ends the job with that one message; an
exception whose `restart_actor` is true (the engine died) ends the actor's process, and Ray gives its shards to a new
one; so does the loss of a process or a node. A failure to start is tried again on START_ATTEMPTS actors, a shard
BEGINNINGS times: what fails like that everywhere ends the job with its reason instead of going round for ever.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.capacity import Need, watched
from app.errors import UserError
from app.placement import ActorPlacement
from app.progress import Progress
from app.stage import StageContext

START_ATTEMPTS = 3  # actors in a row that may fail to start before it counts as the job's own fault
BEGINNINGS = 8  # times a shard may be begun, each ended by the loss of its actor; fewer would blame bystanders


class ShardWorker(Protocol):
    """Built once an actor. `process` reads input shard `index`, writes output shard `index`, returns counts."""

    async def process(self, index: int) -> dict[str, float]: ...


@dataclass(frozen=True)
class Pool:
    """Actors of one stage. `concurrency` shards are in flight in each.

    With `max_actors` the pool starts with `actors`, grows while all are busy and there is room, and shrinks when work
    runs out. `labels` name the nodes it may use. `asked_by` is the part of the recipe that says all this.
    """

    actors: int
    cpus: float
    gpus: float = 0
    concurrency: int = 1
    max_actors: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    asked_by: str = "placement"

    @classmethod
    def of(cls, place: ActorPlacement, asked_by: str, gpus: float = 0, concurrency: int = 1) -> Pool:
        """The pool that a part of the recipe asks for."""
        return cls(place.actors, place.cpus, gpus, concurrency, place.max_actors, place.labels, asked_by)

    def strategy(self, shards: int) -> ActorPoolStrategy:
        """For Ray Data; no more actors than there are shards."""
        fewest, most = min(self.actors, shards), min(self.max_actors or self.actors, shards)
        return ActorPoolStrategy(
            min_size=fewest, max_size=most, initial_size=fewest, max_tasks_in_flight_per_actor=self.concurrency + 1
        )

    def remote(self) -> dict[str, Any]:
        """What Ray is asked for each actor."""
        asked: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            asked["num_gpus"] = self.gpus
        if self.labels:
            asked["label_selector"] = dict(self.labels)
        return asked


class _Tally:
    """What outlives an actor: how often starts failed and shards were begun. One a job, on the driver's node."""

    def __init__(self) -> None:
        self.failed_starts = self.placed = 0
        self.begun: dict[int, int] = {}
        self.last_words = ""

    def place(self) -> None:
        """One more actor has a process on some node."""
        self.placed += 1

    def count_placed(self) -> int:
        return self.placed

    def started(self) -> None:
        self.failed_starts = 0

    def start_failed(self) -> int:
        """How many starts failed since one succeeded, this one included."""
        self.failed_starts += 1
        return self.failed_starts

    def begin(self, shard: int) -> tuple[int, str]:
        """How often this shard was begun, this time included, and the last words of an actor that died."""
        self.begun[shard] = self.begun.get(shard, 0) + 1
        return self.begun[shard], self.last_words

    def finished(self, shard: int) -> None:
        self.begun.pop(shard, None)

    def died(self, words: str) -> None:
        self.last_words = words


class _Actor:
    """Wraps a ShardWorker for map_batches; a failure comes back as a row, so that the driver can say it once."""

    def __init__(self, factory: type, arguments: tuple[Any, ...], tally: ray.actor.ActorHandle) -> None:
        self.tally = tally
        self.failure: str | None = None
        tally.place.remote()
        try:
            self.worker: ShardWorker = factory(*arguments)
        except UserError as error:
            self.failure = _describe(error)
        except Exception as error:
            if ray.get(tally.start_failed.remote()) < START_ATTEMPTS:
                raise  # another actor, perhaps on another node, tries
            self.failure = _describe(error)
        else:
            ray.get(tally.started.remote())

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        shards = [int(index) for index in batch["shard"]]
        results = [await self._process(index) for index in shards]
        return {
            "shard": shards,
            "counts": [[{"key": k, "value": float(v)} for k, v in counts.items()] for counts, _ in results],
            "failure": [failure for _, failure in results],
        }

    async def _process(self, index: int) -> tuple[dict[str, float], str]:
        """Counts of one shard and its failure, empty where it has none."""
        if self.failure is not None:
            return {}, self.failure
        times, last_words = await self.tally.begin.remote(index)
        if times > BEGINNINGS:
            return {}, f"fault:begun {BEGINNINGS} times, and each time its actor was lost. {last_words or NO_WORDS}"
        try:
            counts = await self.worker.process(index)
        except Exception as error:
            if getattr(error, "restart_actor", False):
                await self.tally.died.remote(f"The last one said: {error}")
                os._exit(1)  # not exit_actor(): Ray takes that for the end of the work and does not retry it
            return {}, _describe(error)
        await self.tally.finished.remote(index)
        return counts, ""


NO_WORDS = "None left a reason: the machine may have killed them (out of memory?) or gone away."


def _describe(error: Exception) -> str:
    return f"user:{error}" if isinstance(error, UserError) else "fault:" + traceback.format_exc()


def run_shards(context: StageContext, worker: type, arguments: tuple[Any, ...], shards: int, pool: Pool) -> None:
    """Process those of a stage's `shards` shards that are not written yet."""
    pending = context.pending(shards)
    context.progress.begin(shards, shards - len(pending))
    map_shards(worker, arguments, pending, pool, context.progress)


def map_shards(
    factory: type, arguments: tuple[Any, ...], pending: Sequence[int], pool: Pool, progress: Progress
) -> None:
    """Process `pending` shards on a pool of actors. Raises at the first failure; finished shards stay."""
    if not pending:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = START_ATTEMPTS
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # grow as soon as every place is taken
    context.execution_no_progress_timeout_s = -1  # a shard of long traces may take longer than any fixed time
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(_Tally).options(num_cpus=0, scheduling_strategy=here).remote()
    rows = ray.data.from_items([{"shard": int(i)} for i in pending], override_num_blocks=len(pending))
    done = rows.map_batches(
        _Actor,
        fn_constructor_args=(factory, arguments, tally),
        batch_size=1,
        compute=pool.strategy(len(pending)),
        max_concurrency=pool.concurrency,
        **pool.remote(),
    )
    need = Need(min(pool.actors, len(pending)), pool.cpus, pool.gpus, pool.labels)
    with watched(need, pool.asked_by, progress.say, lambda: ray.get(tally.count_placed.remote())):
        for row in done.iter_rows():
            _raise(row, progress.name)
            progress.advance(1, {c["key"]: c["value"] for c in row["counts"] or []})


def _raise(row: dict[str, Any], stage: str) -> None:
    """The failure a row carries, where it does."""
    if row["failure"]:
        kind, _, text = row["failure"].partition(":")
        raise UserError(text) if kind == "user" else RuntimeError(f"{stage}, shard {row['shard']}:\n{text}")
