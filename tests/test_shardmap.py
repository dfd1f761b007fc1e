"""Shards on a real local Ray: results, failures that end the job, and deaths that do not."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from ray.data._internal.cluster_autoscaler import DefaultAutoscalingCoordinator

from app import capacity, shardmap
from app.errors import UserError
from app.progress import Progress
from app.recipe import Recipe
from app.shardmap import Pool, map_shards, run_shards
from app.shardqueue import ShardQueue
from app.stage import Stage, StageContext
from app.store import Output
from tests import shard_workers as workers

ROOT = Path(__file__).parents[1]
RECIPE = Recipe.model_validate({"name": "t", "problems": {"train": 1, "validation": 1, "test": 1}})


def run(worker: type, folder: Path, shards: int = 6, concurrency: int = 2, actors: int = 1) -> Progress:
    progress = Progress("test", out=io.StringIO())
    progress.begin(shards)
    map_shards(worker, (str(folder),), range(shards), Pool(actors, 0.5, concurrency=concurrency), progress)
    return progress


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processed(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.glob("shard-*"))}


def test_every_shard_is_processed_once_by_one_worker(ray_local: str, tmp_path: Path) -> None:
    progress = run(workers.Worker, tmp_path)
    assert processed(tmp_path) == {f"shard-{i}": 1 for i in range(6)}
    assert (tmp_path / "built").stat().st_size == 1
    assert progress.done == 6
    assert progress.counts["rows"] == 12


def test_shards_are_in_flight_together(ray_local: str, tmp_path: Path) -> None:
    assert run(workers.Worker, tmp_path, shards=12, concurrency=4).counts["crowded"] > 0


def test_ray_datas_own_requests_for_nodes_have_the_labels_of_the_pool(
    ray_local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the actors' demand, Ray Data asks the autoscaler for room; without labels any node type would do."""
    asked: list[dict[str, str] | None] = []

    def ask(self: DefaultAutoscalingCoordinator, *_arguments: object, **_options: object) -> None:
        asked.append(self._subcluster_selector)

    monkeypatch.setattr(DefaultAutoscalingCoordinator, "request_resources", ask)
    labels = {"role": "!trainer"}
    for pool in (Pool(1, 0.5, labels=labels), Pool(1, 0.5)):
        progress = Progress("test", out=io.StringIO())
        map_shards(workers.Worker, (str(tmp_path),), range(2), pool, progress)
        assert asked and set(map(str, asked)) == {str(dict(pool.labels) or None)}
        asked.clear()


def test_a_mistake_of_the_user_ends_the_job_with_its_own_words(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^row \d: no answer; add one$"):
        run(workers.Mistaken, tmp_path)


def test_a_fault_ends_the_job_with_its_traceback(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)test, shard 0:.*ZeroDivisionError"):
        run(workers.Faulty, tmp_path)


@pytest.mark.parametrize("worker", [workers.DiesOnce, workers.KilledOnce])
def test_the_death_of_an_engine_or_actor_costs_a_restart_only(ray_local: str, tmp_path: Path, worker: type) -> None:
    progress = run(worker, tmp_path)
    assert (tmp_path / "built").stat().st_size == 2
    assert set(processed(tmp_path)) == {f"shard-{i}" for i in range(6)}
    assert progress.done == 6
    assert progress.counts["rows"] == 12


RESTARTED = """
import sys
from app.cluster import ray_session
from app.progress import Progress
with ray_session(2):
    from app.shardmap import Pool, map_shards
    from tests import shard_workers
    progress = Progress("test")
    progress.begin(6)
    map_shards(shard_workers.KilledOnce, (sys.argv[1],), range(6), Pool(1, 0.5, concurrency=2), progress)
"""


@pytest.mark.slow
def test_a_restart_needs_nothing_in_the_object_store(tmp_path: Path) -> None:
    """Ray warns of each actor that began with something there; it does so once a process, hence one of its own."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", RESTARTED, str(tmp_path)], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "6/6 shards" in done.stderr and (tmp_path / "built").stat().st_size == 2
    assert "constructor arguments in the object store" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_shard_that_always_kills_its_engine_ends_the_job(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"actor was lost. The last one said: engine gone: out of memory"):
        run(workers.AlwaysDies, tmp_path, shards=1)
    assert (tmp_path / "died").stat().st_size == shardmap.BEGINNINGS


@pytest.mark.parametrize("actors", [1, 3])
def test_a_start_that_fails_everywhere_ends_the_job_with_one_diagnosis(
    ray_local: str, tmp_path: Path, actors: int
) -> None:
    with pytest.raises(RuntimeError, match="no kernel image") as caught:
        run(workers.NeverStarts, tmp_path, actors=actors)
    assert str(caught.value).count("RuntimeError: no kernel image") == 1
    built = (tmp_path / "built").stat().st_size
    assert shardmap.START_ATTEMPTS <= built < shardmap.START_ATTEMPTS + actors


def test_a_start_that_fails_once_is_tried_again(ray_local: str, tmp_path: Path) -> None:
    assert run(workers.StartsAtTheSecondTry, tmp_path).done == 6
    assert (tmp_path / "built").stat().st_size == 2


def test_a_mistake_at_the_start_is_not_tried_again(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights there"):
        run(workers.Unservable, tmp_path)
    assert (tmp_path / "built").stat().st_size == 1


def test_a_busy_pool_grows_and_all_comes_back_at_the_end(ray_local: str, tmp_path: Path) -> None:
    progress = Progress("test", out=io.StringIO())
    progress.begin(40)
    before = ray.cluster_resources()["CPU"]
    pool = Pool(1, 0.5, concurrency=2, max_actors=3)
    map_shards(workers.Crowded, (str(tmp_path),), range(40), pool, progress)
    assert progress.done == 40 and processed(tmp_path) == {f"shard-{i}": 1 for i in range(40)}
    assert 1 < (tmp_path / "built").stat().st_size <= 3
    wait_for(lambda: ray.available_resources().get("CPU") == before)


def test_all_comes_back_after_a_failure_too(ray_local: str, tmp_path: Path) -> None:
    before = ray.cluster_resources()["CPU"]
    with pytest.raises(RuntimeError) as kept:
        run(workers.Faulty, tmp_path)
    wait_for(lambda: ray.available_resources().get("CPU") == before)
    assert kept.value  # the error with its traceback is still held here, as the pipeline holds it until others ended


def test_more_actors_than_fit_work_with_those_that_do(ray_local: str, tmp_path: Path) -> None:
    progress = Progress("test", out=io.StringIO())
    progress.begin(12)
    map_shards(workers.Worker, (str(tmp_path),), range(12), Pool(8, 1), progress)
    assert progress.done == 12 and (tmp_path / "built").stat().st_size <= 2


@pytest.mark.parametrize("pool", [Pool(1, 64), Pool(1, 1, gpus=1), Pool(1, 1, labels={"role": "sampler"})])
def test_what_no_node_can_hold_ends_a_private_job_at_once(ray_local: str, tmp_path: Path, pool: Pool) -> None:
    with pytest.raises(UserError, match=r"the cluster has room for 0 of 1 x \(.* Add nodes, or change placement"):
        map_shards(workers.Worker, (str(tmp_path),), range(2), pool, Progress("test", out=io.StringIO()))
    assert not (tmp_path / "built").exists()


def test_the_cluster_is_seen_as_it_is(ray_local: str) -> None:
    (node,) = capacity.nodes()
    assert (node.cpus, node.gpus) == (2, 0)
    assert node.labels["ray.io/node-id"] == ray.get_runtime_context().get_node_id()


def test_a_fault_is_heard_of_while_other_shards_go_on(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)test, shard 0:.*no such column"):
        run(workers.FaultyBesideOthers, tmp_path, shards=2)


def test_a_fault_closes_the_queue(ray_local: str) -> None:
    queue = ray.remote(ShardQueue).options(num_cpus=0).remote(range(3))
    assert ray.get(queue.next.remote(0)).shard == 0
    receipts = shardmap._Receipts(queue, Progress("test", out=io.StringIO()))
    with pytest.raises(ValueError, match="no such column"), receipts.collected():
        raise ValueError("no such column")
    assert ray.get(queue.next.remote(1)) is None


def test_after_a_fault_nothing_more_is_begun(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such column") as kept:
        map_shards(
            workers.FaultyAmongMany,
            (str(tmp_path),),
            range(1000),
            Pool(1, 0.5, concurrency=2),
            Progress("test", out=io.StringIO()),
        )
    before = len(processed(tmp_path))
    time.sleep(3)  # sixty times what a shard takes
    assert len(processed(tmp_path)) <= before + 4  # those in flight, and turns that were on their way
    assert kept.value


def test_what_goes_wrong_with_the_answers_ends_the_job(ray_local: str, tmp_path: Path) -> None:
    class Full:
        def begin(self, pending: int, unit: str) -> None: ...

        def done(self, pieces: int, counts: dict[str, float]) -> None:
            raise OSError("no space for metrics")

    progress = Progress("test", out=io.StringIO(), watcher=Full())
    with pytest.raises(OSError, match="no space for metrics"):
        map_shards(workers.Slow, (str(tmp_path),), range(1000), Pool(1, 0.5, concurrency=2), progress)
    assert len(processed(tmp_path)) < 100


def output_of(root: Path) -> tuple[StageContext, Output]:
    output = Output(str(root), "sampling", "k")
    stage = Stage("sampling", lambda _context: None, {})
    return StageContext(stage, RECIPE, {}, output, Progress("sampling", out=io.StringIO())), output


def test_a_manifest_needs_footers_of_earlier_sessions_only(
    ray_local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver sums up is what the files hold: in one go, resumed, and after the loss of an actor."""
    read: list[str] = []
    footer = pq.read_metadata

    def noted(path: str, **how: object) -> pq.FileMetaData:
        read.append(Path(path).name)
        return footer(path, **how)

    monkeypatch.setattr(pq, "read_metadata", noted)
    pool, told = Pool(2, 0.5, concurrency=2), []
    for name, worker, earlier, again in (
        ("whole", workers.Writer, [], []),
        ("resumed", workers.Writer, [1, 4], []),
        ("lossy", workers.WriterKilledOnce, [0], [3]),
    ):
        context, output = output_of(tmp_path / name)
        for index in earlier:
            asyncio.run(workers.Writer(output).process(index))
        read.clear()
        run_shards(context, worker, (output,), 8, pool)
        told.append(context.written)
        assert {f"part-{index:05d}.parquet" for index in earlier + again} <= set(read)
        assert len(read) <= len(earlier) + (pool.concurrency if again else 0)
        assert context.written == output.written() and context.progress.done == 8
    assert told[0] == told[1] == told[2]
    assert (told[0].shards, told[0].rows) == (8, 7)


def test_places_are_as_many_as_can_be_in_flight() -> None:
    assert Pool(4, 1, concurrency=3).places(1_000_000) == 12
    assert Pool(4, 1, concurrency=3, max_actors=10).places(1_000_000) == 30
    assert Pool(4, 1, concurrency=3, max_actors=10).places(7) == 7


def test_nothing_pending_starts_nothing(tmp_path: Path) -> None:
    map_shards(workers.Worker, (str(tmp_path),), [], Pool(1, 1), Progress("test", out=io.StringIO()))
    assert not (tmp_path / "built").exists()
