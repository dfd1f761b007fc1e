"""Run a worker over shards by Ray Data actors. The worker writes each shard itself; only its receipt comes back.

Shards are deterministic slices of a stage's input, one output file each. A shard whose file exists is done: that is all
the state there is. Ray Data gives the actor pool, retries after lost actors and nodes, and autoscaling; it never
carries rows between stages, so the driver's memory does not grow with the data. Nor with the number of shards: what Ray
Data schedules are places (room for one shard in flight in an actor), and each place asks a queue beside the driver for
one shard after the other (app/shardqueue.py). The queue also brings the receipts; the driver sums them up.

What may fail, and what follows: a UserError or any other exception of a worker ends the job with that one message; an
exception whose `restart_actor` is true (the engine died) ends the actor's process, and Ray gives its shards to a new
one; so does the loss of a process or a node. A failure to start is tried again on START_ATTEMPTS actors, a shard
BEGINNINGS times: what fails like that everywhere ends the job with its reason instead of going round for ever.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.actor_arguments import pass_values
from app.capacity import Need, watched
from app.errors import UserError
from app.placement import ActorPlacement
from app.progress import Progress
from app.shard_stats import Receipt, Total, Written
from app.shardqueue import ShardQueue
from app.stage import StageContext

START_ATTEMPTS = 3  # actors in a row that may fail to start before it counts as the job's own fault
BEGINNINGS = 8  # times a shard may be begun, each ended by the loss of its actor; fewer would blame bystanders
POLL = 0.5  # seconds between looks at what is finished


class ShardWorker(Protocol):
    """Built once an actor. `process` reads input shard `index`, writes output shard `index`, returns its receipt."""

    async def process(self, index: int) -> Receipt: ...


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

    def places(self, shards: int) -> int:
        """How many of `shards` shards can be in flight at once when the pool is as large as it may be."""
        return min(shards, (self.max_actors or self.actors) * self.concurrency)

    def strategy(self, shards: int) -> ActorPoolStrategy:
        """For Ray Data; no more actors than there are shards. An actor holds `concurrency` places: one more would wait
        there for the end of the stage, although another actor has room for it."""
        fewest, most = min(self.actors, shards), min(self.max_actors or self.actors, shards)
        return ActorPoolStrategy(
            min_size=fewest, max_size=most, initial_size=fewest, max_tasks_in_flight_per_actor=self.concurrency
        )

    def remote(self) -> dict[str, Any]:
        """What Ray is asked for each actor."""
        asked: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            asked["num_gpus"] = self.gpus
        if self.labels:
            asked["label_selector"] = dict(self.labels)
        return asked


class _Actor:
    """Wraps a ShardWorker for map_batches; a failure comes back as a row, so that the driver can say it once."""

    def __init__(self, factory: type, arguments: tuple[Any, ...], name: str) -> None:
        self.queue = queue = ray.get_actor(name)
        self.failure = ""
        queue.place.remote()
        try:
            self.worker: ShardWorker = factory(*arguments)
        except UserError as error:
            self.failure = _describe(error, "start of an actor")
        except Exception as error:
            if ray.get(queue.start_failed.remote()) < START_ATTEMPTS:
                raise  # another actor, perhaps on another node, tries
            self.failure = _describe(error, "start of an actor")
        else:
            ray.get(queue.started.remote())

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"failure": [self.failure or await self._work(int(place)) for place in batch["place"]]}

    async def _work(self, place: int) -> str:
        """Do shards until none is left; the failure that ended it before, empty where none did."""
        turn = await self.queue.next.remote(place)
        while turn is not None:
            if turn.begun > BEGINNINGS:
                words = await self.queue.last_words.remote() or NO_WORDS
                return f"fault:shard {turn.shard}:\nbegun {BEGINNINGS} times, and each time its actor was lost. {words}"
            try:
                receipt = await self.worker.process(turn.shard)
            except Exception as error:
                if getattr(error, "restart_actor", False):
                    await self.queue.died.remote(f"The last one said: {error}")
                    os._exit(1)  # not exit_actor(): Ray takes that for the end of the work and does not retry it
                return _describe(error, f"shard {turn.shard}")
            turn = await self.queue.next.remote(place, receipt)
        return ""


NO_WORDS = "None left a reason: the machine may have killed them (out of memory?) or gone away."


def _describe(error: Exception, what: str) -> str:
    return f"user:{error}" if isinstance(error, UserError) else f"fault:{what}:\n{traceback.format_exc()}"


def run_shards(context: StageContext, worker: type, arguments: tuple[Any, ...], shards: int, pool: Pool) -> None:
    """Process those of a stage's `shards` shards that are not written yet."""
    context.wrote(complete(context, worker, arguments, shards, pool))


def complete(
    context: StageContext, worker: type, arguments: tuple[Any, ...], shards: int, pool: Pool, kind: str = "part"
) -> Written:
    """The same for shards of a kind. Returns what all hold: as their writers said, and for shards of earlier sessions
    as their footers say, which are read while the others are made.
    """
    pending = context.pending(shards, kind)
    context.progress.begin(shards, shards - len(pending))
    earlier = sorted(set(range(shards)).difference(pending))
    stopped = threading.Event()
    with ThreadPoolExecutor(1, "footers") as beside:
        reading = beside.submit(_until, stopped, context.output.receipts(earlier, kind))
        try:
            made, unsure = map_shards(worker, arguments, pending, pool, context.progress)
            return (made + reading.result() + Total(context.output.receipts(unsure, kind))).written
        finally:
            stopped.set()


def _until(stopped: threading.Event, receipts: Iterable[Receipt]) -> Total:
    """The sum of receipts; of some of them where nobody waits for it any more."""
    total = Total()
    for receipt in receipts:
        if stopped.is_set():
            break
        total.add(receipt)
    return total


def map_shards(
    factory: type, arguments: tuple[Any, ...], pending: Sequence[int], pool: Pool, progress: Progress
) -> tuple[Total, list[int]]:
    """Process `pending` shards on a pool of actors. Raises at the first failure; finished shards stay.

    Returns the sum of what their writers said, and the shards not in it because only their files can tell: those begun
    more than once.
    """
    if not pending:
        return Total(), []
    pass_values()
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = START_ATTEMPTS
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # grow as soon as every place is taken
    context.execution_no_progress_timeout_s = -1  # a place is taken until the stage ends
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    name = f"shards-{uuid.uuid4().hex}"
    queue = ray.remote(ShardQueue).options(name=name, num_cpus=0, scheduling_strategy=here).remote(pending)
    places = pool.places(len(pending))
    done = ray.data.from_items([{"place": number} for number in range(places)], override_num_blocks=places).map_batches(
        _Actor,
        fn_constructor_args=(factory, arguments, name),
        batch_size=1,
        compute=pool.strategy(len(pending)),
        max_concurrency=pool.concurrency,
        **pool.remote(),
    )
    # Ray Data asks for nodes itself as well, by resources alone unless told: any node with a GPU would do then.
    done.context.execution_options.label_selector = dict(pool.labels) or None
    need = Need(min(pool.actors, len(pending)), pool.cpus, pool.gpus, pool.labels)
    receipts = _Receipts(queue, progress)
    with watched(need, pool.asked_by, progress.say, lambda: ray.get(queue.placed.remote())), receipts.collected():
        for batch in done.iter_batches(batch_size=None, prefetch_batches=0):  # a failure must not wait for other places
            for failure in batch["failure"]:
                _raise(failure, progress.name)
    return receipts.total, receipts.unsure


class _Receipts:
    """What actors handed in, fetched from the queue while they work."""

    def __init__(self, queue: ray.actor.ActorHandle, progress: Progress) -> None:
        self.queue, self.progress = queue, progress
        self.total, self.unsure = Total(), list[int]()

    def take(self) -> None:
        """Count in what came since the last time."""
        for done in ray.get(self.queue.take.remote()):
            if done.sure:
                self.total.add(done.receipt)
            else:
                self.unsure.append(done.receipt.index)
            self.progress.advance(1, done.receipt.counts)

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Take what comes while the block runs, and the rest at its end. Raises what went wrong with that."""
        stopped = threading.Event()
        with ThreadPoolExecutor(1, "receipts") as beside:
            taking = beside.submit(self._keep_taking, stopped)
            try:
                yield
            except BaseException:
                self.queue.close.remote()  # actors go on until they are gone; they must begin nothing more
                raise
            finally:
                stopped.set()
        taking.result()
        self.take()

    def _keep_taking(self, stopped: threading.Event) -> None:
        try:
            while not stopped.wait(POLL):
                self.take()
        except BaseException:
            self.queue.close.remote()  # or the failure would be heard of at the end of the stage only
            raise


def _raise(failure: str, stage: str) -> None:
    """The failure a place ended with, where it did."""
    if failure:
        kind, _, text = failure.partition(":")
        raise UserError(text) if kind == "user" else RuntimeError(f"{stage}, {text}")
