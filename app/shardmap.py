"""Run a worker over shards by Ray Data actors. The worker writes each shard itself; only counts come back.

Shards are deterministic slices of a stage's input, one output file each. A shard whose file exists is done: that is all
the state there is. Ray Data gives the actor pool, retries after lost actors and nodes, and autoscaling; it never
carries rows between stages, so the driver's memory does not grow with the data.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.data import ActorPoolStrategy, DataContext

from app.errors import UserError
from app.progress import Progress


class ShardWorker(Protocol):
    """Built once an actor. `process` reads input shard `index`, writes output shard `index`, returns counts."""

    async def process(self, index: int) -> dict[str, float]: ...


@dataclass(frozen=True)
class Pool:
    """Actors of one stage. `concurrency` shards are in flight in each."""

    actors: int
    cpus: float
    gpus: float = 0
    concurrency: int = 1
    runtime_env: dict[str, Any] | None = None


class _Actor:
    """Wraps a ShardWorker for map_batches; a failure comes back as a row, so that the driver can say it once."""

    def __init__(self, factory: type, arguments: tuple[Any, ...]) -> None:
        self.failure: str | None = None
        try:
            self.worker: ShardWorker = factory(*arguments)
        except Exception as error:  # reported once by the driver; raising here would restart the actor for ever
            self.failure = _describe(error)

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        shards, counts, failures = [], [], []
        for index in batch["shard"]:
            failure = self.failure
            result: dict[str, float] = {}
            if failure is None:
                try:
                    result = await self.worker.process(int(index))
                except Exception as error:
                    if getattr(error, "restart_actor", False):
                        raise
                    failure = _describe(error)
            shards.append(int(index))
            counts.append([{"key": k, "value": float(v)} for k, v in result.items()])
            failures.append(failure or "")
        return {"shard": shards, "counts": counts, "failure": failures}


def _describe(error: Exception) -> str:
    return f"user:{error}" if isinstance(error, UserError) else "fault:" + traceback.format_exc()


def map_shards(
    factory: type, arguments: tuple[Any, ...], pending: Sequence[int], pool: Pool, progress: Progress
) -> None:
    """Process `pending` shards on a pool of actors. Raises at the first failure; finished shards stay."""
    if not pending:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = ray.data.from_items([{"shard": int(i)} for i in pending], override_num_blocks=len(pending))
    remote: dict[str, Any] = {"num_cpus": pool.cpus}
    if pool.gpus:
        remote["num_gpus"] = pool.gpus
    if pool.runtime_env:
        remote["runtime_env"] = pool.runtime_env
    actors = min(pool.actors, len(pending))
    done = rows.map_batches(
        _Actor,
        fn_constructor_args=(factory, arguments),
        batch_size=1,
        compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=pool.concurrency + 1),
        max_concurrency=pool.concurrency,
        **remote,
    )
    for row in done.iter_rows():
        if row["failure"]:
            kind, _, text = row["failure"].partition(":")
            raise UserError(text) if kind == "user" else RuntimeError(f"{progress.name}, shard {row['shard']}:\n{text}")
        progress.advance(1, {c["key"]: c["value"] for c in row["counts"] or []})
