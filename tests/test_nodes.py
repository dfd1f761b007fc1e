"""Actors land on the nodes that labels name; where there is none, a job says what is missing and waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_cluster import PATIENCE, ROOT, LocalCluster, end, local_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SHARDS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A head without work, a spot sampler and an on-demand verifier, as in cluster.yaml."""
    with local_cluster(head_cpus=0) as cluster:
        cluster.add_node("one", 2, {"role": "sampler", "market": "spot"})
        cluster.add_node("two", 2, {"role": "verifier", "market": "on-demand"})
        yield cluster


def start(cluster: LocalCluster, folder: Path, labels: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "tests/nodes_run.py", str(folder), str(SHARDS), json.dumps(labels)],
        env=cluster.environment | {"RAY_ADDRESS": cluster.address},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def nodes_used(folder: Path) -> set[str]:
    found = [path.read_text() for path in folder.glob("shard-*")]
    assert len(found) == SHARDS
    return set(found)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"role": "sampler"}, {"one"}),
        ({"role": "verifier", "market": "on-demand"}, {"two"}),
        ({"market": "!spot"}, {"two"}),
        ({"role": "in(sampler, trainer)"}, {"one"}),
        ({}, {"one", "two"}),
    ],
)
def test_actors_land_where_the_labels_say(
    cluster: LocalCluster, tmp_path: Path, labels: dict[str, str], names: set[str]
) -> None:
    job = start(cluster, tmp_path, labels)
    assert job.wait(PATIENCE) == 0, (tmp_path / "log").read_text()[-3000:]
    assert nodes_used(tmp_path) <= {cluster.node_id(name) for name in names}
    assert "the cluster has room" not in (tmp_path / "log").read_text()


def test_a_job_without_its_nodes_says_so_and_goes_on_when_they_come(cluster: LocalCluster, tmp_path: Path) -> None:
    job = start(cluster, tmp_path, {"role": "trainer"})
    log = tmp_path / "log"
    try:
        cluster.wait_for(lambda: "the cluster has room" in log.read_text() or job.poll() is not None, "the message")
        said = log.read_text()
        assert "waiting or slower than asked: the cluster has room for 0 of 2 x (1 CPU, role=trainer)" in said
        assert "1 x (2 CPU, market=spot, role=sampler)" in said and "change placement.sampling" in said
        assert not list(tmp_path.glob("shard-*"))
        cluster.add_node("three", 2, {"role": "trainer"})
        assert job.wait(PATIENCE) == 0, log.read_text()[-3000:]
    finally:
        end(job)
    assert nodes_used(tmp_path) == {cluster.node_id("three")}
