"""Nodes come and go while a job runs; it ends with the same ids as if nothing had happened: none lost, none twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_cluster import PATIENCE, ROOT, LocalCluster, end, local_cluster
from tests.cluster.scripted_run import ids, ids_without_a_cluster, outputs
from tests.cluster.test_spot_watch import Metadata

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes
SECONDS = 4.0  # a trace: 40 shards of two problems, eight at a time, take 40 seconds


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A head that runs no work, as in cluster.yaml, and two workers of two CPUs."""
    with local_cluster(head_cpus=0) as cluster:
        cluster.add_node("one", 2)
        cluster.add_node("two", 2)
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[tuple[str, str]]]:
    return ids_without_a_cluster(str(tmp_path_factory.mktemp("alone")))


def start(cluster: LocalCluster, runs: Path, seconds: float) -> subprocess.Popen[bytes]:
    """The job's driver, beside the head.

    It speaks to a file: Ray tells the driver of every lost node and process in many lines, and a driver whose pipe is
    full, because nobody reads it before the job ends, waits for ever in its next print.
    """
    with log(runs).open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("scripted_run.py")), str(runs), str(seconds)],
            env=cluster.environment | {"RAY_ADDRESS": cluster.address},
            stdout=sink,
            stderr=sink,
            cwd=ROOT,
        )


def log(runs: Path) -> Path:
    """What the last driver of these runs said."""
    return runs / "driver.log"


def finish(job: subprocess.Popen[bytes], runs: Path) -> str:
    """Wait until the job ends well; what it said."""
    job.wait(timeout=2 * PATIENCE)
    said = log(runs).read_text()
    assert job.returncode == 0, said[-4000:]
    return said


def shards_done(runs: Path) -> int:
    return len(outputs(str(runs))[1].done_shards())


def wait_for_shards(cluster: LocalCluster, job: subprocess.Popen[bytes], runs: Path, number: int) -> None:
    cluster.wait_for(lambda: shards_done(runs) >= number or job.poll() is not None, f"{number} shards")
    assert job.poll() is None, log(runs).read_text()[-4000:]


def test_nodes_killed_again_and_again_lose_nothing(cluster: LocalCluster, expected: object, tmp_path: Path) -> None:
    job = start(cluster, tmp_path, SECONDS)
    killed = 0
    for number, name in enumerate(["one", "two", "three"], 1):
        wait_for_shards(cluster, job, tmp_path, 8 * number)
        cluster.kill_node(name)
        killed += 1
        cluster.add_node({1: "three", 2: "four", 3: "five"}[number], 2)
    said = finish(job, tmp_path)
    assert killed == 3 and "sampling: 40 of 40 shards to do" in said
    assert ids(str(tmp_path)) == expected


def test_a_node_taken_back_with_notice_loses_nothing(cluster: LocalCluster, expected: object, tmp_path: Path) -> None:
    """The whole way: the cloud's notice, the watcher, Ray's drain, and the node is gone when its time is over."""
    metadata = Metadata()
    node = cluster.node_id("one")
    which = [f"--address={cluster.address}", f"--node-id={node}"]  # two nodes on one host: say which
    watcher = subprocess.Popen(
        [sys.executable, "jobs/spot_watch.py", "--cloud=aws", f"--metadata={metadata.base}", "--interval=0.2", *which],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    job = start(cluster, tmp_path, SECONDS)
    try:
        wait_for_shards(cluster, job, tmp_path, 8)
        metadata.end = time.time() + 30
        said, _ = watcher.communicate(timeout=PATIENCE)
        assert watcher.returncode == 0 and "draining (aws takes the node back" in said
        time.sleep(max(metadata.end - time.time(), 0))
        cluster.kill_node("one")
        finish(job, tmp_path)
    finally:
        end(watcher)
        metadata.shutdown()
        metadata.server_close()
    assert ids(str(tmp_path)) == expected


def test_after_the_head_is_lost_the_same_submission_goes_on(expected: object, tmp_path: Path) -> None:
    with local_cluster(head_cpus=2) as first:
        job = start(first, tmp_path, SECONDS)
        wait_for_shards(first, job, tmp_path, 10)
        first.kill_node("head")
        end(job)
    done = {i: Path(outputs(str(tmp_path))[1].shard_path(i)) for i in outputs(str(tmp_path))[1].done_shards()}
    written = {index: path.stat().st_mtime_ns for index, path in done.items()}
    assert 10 <= len(written) < 40
    with local_cluster(head_cpus=2) as second:
        said = finish(start(second, tmp_path, 0.0), tmp_path)
    assert f"sampling: {40 - len(written)} of 40 shards to do" in said
    assert {index: path.stat().st_mtime_ns for index, path in done.items()} == written
    assert ids(str(tmp_path)) == expected
