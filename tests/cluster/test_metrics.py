"""What Prometheus would read from a node while a job runs: the metrics that docs/grafana.json asks for."""

from __future__ import annotations

import re
import subprocess
import sys

import httpx
import pytest

from app import telemetry
from tests.cluster.local_cluster import ROOT, end, local_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes

DRIVER = """
import ray
from app.telemetry import StageMetrics
ray.init(log_to_driver=False)
sampling, training = StageMetrics("sampling", engines=2), StageMetrics("training/sft")
sampling.begin(5, "shards")
sampling.done(1, {"tokens": 1200.0, "engine_seconds": 2.5})
training.begin(10, "steps")
training.done(1, {"tokens": 600.0})
input()
"""
SAMPLE = re.compile(r"^(ray_eightfold_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
EXPECTED = {
    ("ray_eightfold_done_total", "sampling", "shards"): 1,
    ("ray_eightfold_done_total", "sampling", "tokens"): 1200,
    ("ray_eightfold_done_total", "sampling", "engine_seconds"): 2.5,
    ("ray_eightfold_done_total", "training/sft", "steps"): 1,
    ("ray_eightfold_done_total", "training/sft", "tokens"): 600,
    ("ray_eightfold_pending_shards", "sampling", ""): 4,
    ("ray_eightfold_pending_shards", "training/sft", ""): 9,
    ("ray_eightfold_engines", "sampling", ""): 2,
    ("ray_eightfold_engines", "training/sft", ""): 0,
}


def read(port: int) -> dict[tuple[str, str, str], float]:
    """Our metrics as a node exports them, by name, stage and what."""
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10, trust_env=False).text
    except httpx.TransportError:
        return {}
    found = {}
    for name, labels, value in SAMPLE.findall(text):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[name, tags["stage"], tags.get("what", "")] = float(value)
    return found


def test_a_node_exports_what_the_dashboard_asks_for() -> None:
    with local_cluster(head_cpus=1) as cluster:
        environment = cluster.environment | {"RAY_ADDRESS": cluster.address}
        driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, env=environment, cwd=ROOT)
        try:
            port = cluster.metrics_ports["head"]
            cluster.wait_for(lambda: read(port).keys() >= EXPECTED.keys(), "the metrics")
            assert read(port) == EXPECTED
        finally:
            end(driver)
    assert {name for name, _, _ in EXPECTED} == {
        f"ray_{name}" for name in (telemetry.DONE, telemetry.PENDING, telemetry.ENGINES)
    }
