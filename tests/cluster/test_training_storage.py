"""Two workers on two nodes that share nothing but a bucket: each node has a cache of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from app.remote_folder import file_of, here
from app.store import Output
from app.training.metrics import read
from tests.cluster.local_cluster import PATIENCE, ROOT, LocalCluster, end, local_cluster
from tests.cluster.test_training_faults import ROUNDING, trains
from tests.cluster.training_run import context
from tests.s3 import make_bucket
from tests.training.conftest import save_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes
STEPS, EVERY = 16, 4
NODES = ("one", "two")


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the nodes' caches."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def cluster(s3_environment: dict[str, str], caches: Path) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (s3_environment | {"EIGHTFOLD_CACHE": str(caches / "driver")}).items():
            patch.setenv(name, value)
        with local_cluster(head_cpus=0) as cluster:
            for name in NODES:
                cluster.environment["EIGHTFOLD_CACHE"] = str(caches / name)
                cluster.add_node(name, 1)
            cluster.environment["EIGHTFOLD_CACHE"] = str(caches / "driver")
            yield cluster


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


class Run:
    """One training stage at a path or address, with its log in `logs`."""

    def __init__(self, cluster: LocalCluster, model: Path, root: str, logs: Path, zero: int = 0) -> None:
        self.cluster, self.model, self.root, self.zero = cluster, model, root, zero
        self.log = logs / f"{uuid.uuid4().hex[:8]}.log"
        self.output: Output = context(model, root, STEPS, EVERY).output

    def start(self, workers: int = 2) -> subprocess.Popen[bytes]:
        numbers = [str(number) for number in (STEPS, EVERY, workers, self.zero)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.training_run", str(self.model), self.root, *numbers],
                env=self.cluster.environment | {"RAY_ADDRESS": self.cluster.address, "OMP_NUM_THREADS": "1"},
                stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

    def finish(self, driver: subprocess.Popen[bytes]) -> None:
        assert driver.wait(timeout=2 * PATIENCE) == 0, self.log.read_text()[-3000:]

    def wait_for_step(self, driver: subprocess.Popen[bytes], step: int) -> None:
        """Until the bucket has the rows up to this step."""

        def reached() -> bool:
            rows = read(file_of(self.output, "metrics.jsonl"))
            return driver.poll() is not None or any(row["step"] >= step for row in rows)

        self.cluster.wait_for(reached, f"step {step}")
        assert driver.poll() is None, self.log.read_text()[-3000:]

    def check_equals(self, other: Run) -> None:
        mine, theirs = (load_file(Path(here(f"{run.output.uri}/model")) / "model.safetensors") for run in (self, other))
        apart = max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)
        rows, wanted = (run.output.read().to_pylist() for run in (self, other))
        assert [row["step"] for row in rows] == [row["step"] for row in wanted] == list(range(1, STEPS + 1))
        losses = max(abs(row["loss"] - want["loss"]) for row, want in zip(rows, wanted, strict=True))
        print(f"\nlargest difference: {apart:.1e} in weights, {losses:.1e} in losses")
        assert apart < ROUNDING and losses < ROUNDING


@pytest.fixture(scope="module")
def on_disk(cluster: LocalCluster, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run in a folder that all nodes see."""
    folder = tmp_path_factory.mktemp("disk")
    run = Run(cluster, model, str(folder), folder)
    run.finish(run.start())
    return run


@pytest.fixture(scope="module")
def address(s3_environment: dict[str, str], cluster: LocalCluster) -> str:
    return make_bucket(f"bucket-{uuid.uuid4().hex[:8]}", s3_environment)


def test_a_killed_worker_goes_on_from_the_bucket(
    cluster: LocalCluster, on_disk: Run, model: Path, address: str, tmp_path: Path
) -> None:
    run = Run(cluster, model, f"{address}/worker", tmp_path)
    driver = run.start()
    run.wait_for_step(driver, 2 * EVERY)
    workers: list[psutil.Process] = list(filter(trains, cluster.processes()))
    workers[-1].send_signal(signal.SIGKILL)
    run.finish(driver)
    counts = run.output.counts()
    assert counts["restarts"] == 1 and counts["lost_seconds"] > 0
    assert "training/dpo: step 1" in run.log.read_text(), "the driver shows steps as they are made"
    run.check_equals(on_disk)


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_a_lost_cluster_goes_on_with_one_worker_and_empty_caches(
    cluster: LocalCluster, on_disk: Run, model: Path, address: str, caches: Path, tmp_path: Path, zero: int
) -> None:
    """The driver is killed, and every copy of every node is gone: what is in the bucket is enough."""
    run = Run(cluster, model, f"{address}/driver-{zero}", tmp_path, zero)
    driver = run.start()
    run.wait_for_step(driver, 2 * EVERY)
    end(driver)
    cluster.wait_for(lambda: not any(map(trains, cluster.processes())), "the end of its workers")
    for cache in caches.iterdir():
        shutil.rmtree(cache)
    run.finish(run.start(workers=1))
    assert run.output.counts()["restarts"] == 1
    run.check_equals(on_disk)
