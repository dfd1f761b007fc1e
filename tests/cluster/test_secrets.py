"""Secrets of the environment stay there: no file of a run and no log of Ray holds one, however the run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.endpoint import Endpoint
from tests.cluster.local_cluster import ROOT, LocalCluster
from tests.runs import recipe_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes

PLANTED = {
    "PLANTED_API_KEY": "sk-planted-7f3c9a51e2d84b06",
    "HF_TOKEN": "hf_plantedQwErTyUiOpAsDfGh",
    "WANDB_API_KEY": "planted0123456789abcdef0123456789abcdef01",
    "AWS_SECRET_ACCESS_KEY": "planted/wJalrXUtnFEMI/K7MDENG",
}
RECIPE = {
    "name": "secrets",
    "problems": {"source": {"kind": "world"}, "train": 6, "validation": 2, "test": 6},
    "sampling": {"samples": 2, "max_tokens": 32, "problems_per_shard": 10},
    "evaluation": {"samples": 0, "max_tokens": 32, "problems_per_shard": 6},
    "placement": {"sampling": {"kv_cache_gib": 0.25, "max_model_len": 256}},
    "prices": {"cpu_hour": 0.04},
}


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """One node whose processes all have the secrets in their environment."""
    before = dict(os.environ)
    os.environ.update(PLANTED)
    try:
        cluster = LocalCluster(head_cpus=2, one_host=True)
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield cluster
    finally:
        cluster.close()


def holding(folder: Path) -> list[str]:
    """Files under a folder that hold a secret, by the secret's name."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            body = path.read_bytes()
            found += [f"{path}: {name}" for name, value in PLANTED.items() if value.encode() in body]
    return found


def run(cluster: LocalCluster, endpoint: Endpoint, folder: Path) -> subprocess.CompletedProcess[str]:
    """The main job, with a writer behind the endpoint."""
    writer = {"kind": "openai", "base_url": endpoint.base, "model": "m", "api_key_env": "PLANTED_API_KEY"}
    recipe = recipe_file(folder, RECIPE | {"synthesis": {"writer": writer, "count": 12}})
    return subprocess.run(
        [sys.executable, "-m", "jobs.run", str(recipe), "--runs", str(folder / "runs")],
        env=cluster.environment | {"RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
        check=False,
    )


def test_no_secret_in_any_file_of_a_run_or_log_of_ray(cluster: LocalCluster, tmp_path: Path) -> None:
    endpoint = Endpoint(PLANTED["PLANTED_API_KEY"])
    try:
        done = run(cluster, endpoint, tmp_path)
    finally:
        endpoint.shutdown()
        endpoint.server_close()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(endpoint.asked) == {f"Bearer {PLANTED['PLANTED_API_KEY']}"}  # it was used
    written = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert {"manifest.json", "progress.json", "results.json", "index.html", "sessions.json", "recipe.json"} <= written
    assert len([path for path in cluster.folder.rglob("*") if path.is_file()]) > 20  # Ray's logs
    assert holding(tmp_path) == [] and holding(cluster.folder) == []
    assert not any(value in done.stdout + done.stderr for value in PLANTED.values())


def test_a_refused_key_is_named_but_not_told(cluster: LocalCluster, tmp_path: Path) -> None:
    endpoint = Endpoint("another key")
    try:
        done = run(cluster, endpoint, tmp_path)
    finally:
        endpoint.shutdown()
        endpoint.server_close()
    assert done.returncode == 2
    assert "the key in the environment variable PLANTED_API_KEY was refused" in done.stderr
    assert holding(tmp_path) == [] and holding(cluster.folder) == []
    assert not any(value in done.stdout + done.stderr for value in PLANTED.values())
