"""Ray's own autoscaler (version 2) over a provider that starts nodes on this machine: up by demand, down when idle.

The nodes are real Ray nodes with GPUs that are only claimed; the job is scripted_run.py: sampling actors that ask for
a GPU, then verifiers that ask for none, each on nodes of its role, on a head that runs no work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local_cluster import PATIENCE, ROOT, LocalCluster, free_port
from tests.cluster.scripted_run import ids, ids_without_a_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # the provider's name for its head
EMPTY = ("setup", "head_setup", "worker_setup", "initialization", "head_start_ray", "worker_start_ray")
ROLES = {0: "verifier", 1: "sampler", 8: "trainer"}  # by the GPUs of a node
IDLE = 12  # seconds until an idle node leaves


def configuration(gcs_port: int) -> dict[str, Any]:
    """The shape of cluster.yaml, smaller, over Ray's provider of nodes on one machine."""
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    workers = {
        "sampler": {"CPU": 1, "GPU": 1},
        "verifier": {"CPU": 1},
        "trainer": {"CPU": 8, "GPU": 8},  # nobody asks for it, but an unlabelled request for a GPU fits it too
    }
    store = {"object_store_memory": 100_000_000}
    types = {
        name: {"resources": resources | store, "node_config": {}, "min_workers": 0, "max_workers": 2,
               "labels": {"role": name}}
        for name, resources in workers.items()
    }  # fmt: skip
    return {
        "cluster_name": "test",
        "max_workers": 6,
        "idle_timeout_minutes": IDLE / 60,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "external",
            "module": provider,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": f"127.0.0.1:{gcs_port}",
        },
        "head_node_type": "ray.head.default",  # the provider knows the head by this name alone
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **types,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        **{f"{part}_commands": [] for part in EMPTY},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """A head alone, with the autoscaler beside it."""
    port = free_port()
    file = tmp_path / "autoscaling.yaml"
    file.write_text(json.dumps(configuration(port)))
    variables = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    cluster = LocalCluster(0, False, (f"--autoscaling-config={file}",), variables, gcs_port=port)
    try:
        yield cluster
    finally:
        cluster.close()
        assert cluster.mine() == []


def kinds(cluster: LocalCluster) -> list[str]:
    """Roles of the living workers."""
    totals = [resources for node, resources in cluster.alive().items() if node != HEAD_ID]
    return sorted(ROLES[resources.get("GPU", 0)] for resources in totals)


class Watch(threading.Thread):
    """Notes every set of workers there was, in order, until told to stop."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(daemon=True)
        self.cluster, self.seen, self.stopped = cluster, [kinds(cluster)], threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.5):
            now = kinds(self.cluster)
            if now != self.seen[-1] and self.cluster.answers():
                self.seen.append(now)


def run(cluster: LocalCluster, runs: Path) -> str:
    """The job, to its end, and what it said. It asks for three samplers, where there may be two."""
    asked = {"SCRIPTED_ACTORS": "3", "SCRIPTED_GPUS": "1", "SCRIPTED_ROLES": "1"}
    environment = {"RAY_ADDRESS": cluster.address, **asked}
    job = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("scripted_run.py")), str(runs), "2.0"],
        env=cluster.environment | environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert job.returncode == 0, job.stdout + job.stderr + (cluster.folder / "head.log").read_text()[-3000:]
    return job.stdout + job.stderr


def test_from_a_head_alone_to_samplers_and_verifiers_and_back(cluster: LocalCluster, tmp_path: Path) -> None:
    assert kinds(cluster) == []
    watch = Watch(cluster)
    watch.start()
    try:
        said = run(cluster, tmp_path / "runs")
        begun = time.monotonic()
        cluster.wait_for(lambda: kinds(cluster) == [] and cluster.answers(), "every worker to leave")
    finally:
        watch.stopped.set()
        watch.join()
    print(f"workers, one after the other: {watch.seen}; the last left {time.monotonic() - begun:.0f} s after the end")
    assert "room for 2 of 3 x (1 CPU, 1 GPU, role=sampler)" in said  # slower than asked, and said so; no deadlock
    assert max(workers.count("sampler") for workers in watch.seen) == 2
    assert not any("trainer" in workers for workers in watch.seen)
    assert max(workers.count("verifier") for workers in watch.seen) >= 1
    assert set(next(workers for workers in watch.seen if workers)) == {"sampler"}  # verifiers are not asked for yet
    assert ids(str(tmp_path / "runs")) == ids_without_a_cluster(str(tmp_path / "alone"))
