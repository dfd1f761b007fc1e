"""Actors, nodes and drivers killed at random moments, again and again: the same ids in the end, and no process is left.

Scripted engines on a real Ray cluster of several nodes (tests/cluster/scripted_run.py): everything but the engine is
the product's own.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.local_cluster import PATIENCE, LocalCluster, end, local_cluster
from tests.cluster.scripted_run import ids, ids_without_a_cluster, outputs
from tests.cluster.test_faults import finish, log, shards_done, start, wait_for_shards

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SECONDS = 2.0  # a trace: a shard takes 4 seconds, eight are under way
KILLS = 5  # of each kind, at least
MORE = itertools.count()  # for names of nodes
GAP = (0.3, 5.0)  # seconds between two kills: from within a shard's time to a whole one


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[tuple[str, str]]]:
    return ids_without_a_cluster(str(tmp_path_factory.mktemp("alone")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A head that runs no work and two workers of two CPUs. At its end nothing of it is left."""
    with local_cluster(head_cpus=0) as cluster:
        cluster.add_node("one", 2)
        cluster.add_node("two", 2)
        yield cluster
        members = list(cluster.processes())
    gone, left = psutil.wait_procs(members, timeout=30)
    assert gone and not left


def actors(cluster: LocalCluster) -> list[psutil.Process]:
    """Processes that hold a shard worker."""
    found = []
    for process in cluster.processes():
        try:
            if "MapWorker" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


class Chaos:
    """Kills one thing after the other while a job runs, `kill` says which; counts what it killed."""

    def __init__(self, cluster: LocalCluster, runs: Path, seed: int) -> None:
        self.cluster, self.runs, self.random, self.kills = cluster, runs, random.Random(seed), 0

    def upset(self, job: subprocess.Popen[bytes], kill: Callable[[], bool]) -> None:
        """Until the job ends by itself. Fails where it fails."""
        deadline = time.monotonic() + 2 * PATIENCE
        while job.poll() is None:
            assert time.monotonic() < deadline, f"{shards_done(self.runs)} of 40 shards"
            time.sleep(self.random.uniform(*GAP))
            if self.kills < 2 * KILLS and job.poll() is None:  # at some time the work must be done
                self.kills += kill()
        assert job.returncode == 0, log(self.runs).read_text()[-4000:]

    def actor(self) -> bool:
        """kill -9 of an actor's process."""
        found = actors(self.cluster)
        if found:
            self.random.choice(found).kill()
        return bool(found)

    def node(self) -> bool:
        """kill -9 of all processes of a worker node at once; another takes its place."""
        self.cluster.kill_node(self.some_node())
        self.cluster.add_node(f"more{next(MORE)}", 2)
        return True

    def raylet(self) -> bool:
        """kill -9 of a node's raylet alone: all else on the node must end by itself."""
        name = self.some_node()
        node = psutil.Process(self.cluster.nodes[name].pid)
        family = [node, *node.children(recursive=True)]
        next(process for process in family if process.name() == "raylet").kill()
        _, left = psutil.wait_procs(family, timeout=PATIENCE)
        assert not left, f"outlived their raylet: {left}"
        self.cluster.kill_node(name)
        self.cluster.add_node(f"more{next(MORE)}", 2)
        return True

    def some_node(self) -> str:
        return self.random.choice([name for name in self.cluster.nodes if name != "head"])


@pytest.mark.parametrize("victim", ["actor", "node", "raylet"])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_killed_at_random_moments_costs_nothing_but_time(
    cluster: LocalCluster, expected: object, tmp_path: Path, victim: str, seed: int
) -> None:
    chaos = Chaos(cluster, tmp_path, seed)
    chaos.upset(start(cluster, tmp_path, SECONDS), getattr(chaos, victim))
    assert chaos.kills >= (KILLS if victim == "actor" else 2)
    assert ids(str(tmp_path)) == expected
    assert outputs(str(tmp_path))[1].damaged() == []
    cluster.wait_for(lambda: not actors(cluster), "the actors to end")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_driver_killed_at_random_moments_goes_on_where_it_was(
    cluster: LocalCluster, expected: object, tmp_path: Path, seed: int
) -> None:
    rng, done = random.Random(seed), [0]
    for _ in range(KILLS):
        job = start(cluster, tmp_path, SECONDS)
        if rng.random() < 0.7:  # else while it starts
            wait_for_shards(cluster, job, tmp_path, done[-1] + 1)
        time.sleep(rng.uniform(0, 4))
        end(job)
        done.append(shards_done(tmp_path))
        cluster.wait_for(lambda: not actors(cluster), "the actors of a lost driver to end")
    assert done == sorted(done) and done[-1] > 0
    said = finish(start(cluster, tmp_path, 0.0), tmp_path)
    assert f"sampling: {40 - done[-1]} of 40 shards to do" in said
    assert ids(str(tmp_path)) == expected
    cluster.wait_for(lambda: not actors(cluster), "the actors to end")
