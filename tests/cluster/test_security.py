"""Who may talk to the cluster: nobody without the token, and nobody from another machine unless told so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_cluster import RAY, LocalCluster, local_cluster
from tests.watching import beyond_loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(head_cpus=1, one_host=True) as cluster:
        yield cluster


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/version", "/nodes?view=summary"])
def test_without_the_token_the_api_answers_401(cluster: LocalCluster, path: str) -> None:
    assert cluster.get(path, token="").status_code == 401
    assert cluster.get(path, token="not the token").status_code == 403
    assert cluster.get(path).status_code == 200


def test_a_job_without_the_token_does_not_run(cluster: LocalCluster, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    environment = {k: v for k, v in cluster.environment.items() if not k.startswith("RAY_AUTH")} | {
        "RAY_AUTH_MODE": "disabled"
    }
    done = subprocess.run(
        [*RAY, "job", "submit", f"--address={cluster.dashboard}", "--", "touch", str(proof)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0 and not proof.exists()
    assert cluster.submit("touch", str(proof)).returncode == 0 and proof.exists()


def test_the_exit_code_of_a_job_is_the_codes(cluster: LocalCluster) -> None:
    done = cluster.submit(sys.executable, "-c", "print('said so'); raise SystemExit(3)")
    assert done.returncode != 0
    assert "said so" in done.stdout  # logs are streamed


def test_no_log_holds_the_token(cluster: LocalCluster) -> None:
    cluster.submit(sys.executable, "-c", "import ray; ray.init(); print('connected')")
    secret = cluster.token.encode()
    files = [f for f in cluster.folder.rglob("*") if f.is_file() and f != cluster.token_file]
    assert len(files) > 10
    assert [str(f) for f in files if secret in f.read_bytes()] == []


def test_a_cluster_started_for_this_machine_listens_on_loopback(cluster: LocalCluster) -> None:
    processes = list(cluster.processes())
    assert len(processes) > 4
    assert beyond_loopback(processes) == []
