"""`ray job submit` as docs/cluster.md shows it, to a cluster with a token, against the same recipe run alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.local_cluster import local_cluster
from tests.runs import TINY, ids, recipe_file, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes

# Sampled from the base weights, so that no training is needed; every id is fixed by the recipe.
RECIPE = {
    "name": "submitted",
    "problems": TINY["problems"],
    "sampling": {"samples": 4, "max_tokens": 48, "problems_per_shard": 2},
    "evaluation": {"samples": 0, "max_tokens": 48, "problems_per_shard": 6},
    "placement": {"sampling": {"kv_cache_gib": 0.25, "max_model_len": 256}},
}


def test_a_submitted_job_gives_the_same_ids_as_a_run_alone(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, RECIPE)
    submitted = ("--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml")
    with local_cluster(head_cpus=2, one_host=True) as cluster:
        command = (sys.executable, "-m", "jobs.run", str(recipe), "--runs", str(tmp_path / "cluster"))
        job = cluster.submit(*command, options=submitted)
        assert job.returncode == 0, job.stdout[-4000:] + job.stderr[-4000:]
        assert "sampling: done in" in job.stdout  # the log streams to whoever submits
        again = cluster.submit(*command, options=submitted)
        assert again.returncode == 0 and "sampling: done in" not in again.stdout  # finished: nothing to do
        wrong = cluster.submit(*command, "--set", "sampling.sample=4", options=submitted)
        assert wrong.returncode != 0 and "did you mean 'samples'" in wrong.stdout
        secret = cluster.token.encode()
    run(recipe, tmp_path / "alone")
    assert ids(tmp_path / "cluster" / "submitted") == ids(tmp_path / "alone" / "submitted") != {}
    files = [path for path in (tmp_path / "cluster").rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    assert [str(path) for path in files if secret in path.read_bytes()] == []
