"""Workers, nodes and the driver go while a model is trained; rows and weights are those of an undisturbed run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from app.training import checkpoint
from app.training.metrics import read
from tests.cluster.local_cluster import PATIENCE, RAY, ROOT, LocalCluster, end, local_cluster
from tests.cluster.training_run import context
from tests.training.conftest import save_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # busy machines take minutes to start nodes
STEPS = 40
NOTICE = 20  # seconds
ROUNDING = 5e-4  # a tenth of the learning rate, as in tests/training/test_loop.py


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A head that runs no work, as in cluster.yaml, and three workers of one CPU: one more than is trained on."""
    with local_cluster(head_cpus=0) as cluster:
        for name in ("one", "two", "three"):
            cluster.add_node(name, 1)
        yield cluster


class Run:
    """One training stage on the cluster, in a folder of its own."""

    def __init__(self, cluster: LocalCluster, model: Path, root: Path, checkpoint_steps: int) -> None:
        self.cluster, self.arguments = cluster, (model, root, STEPS, checkpoint_steps)
        root.mkdir(parents=True, exist_ok=True)
        self.log = root / "log"
        self.output = context(model, root, STEPS, checkpoint_steps).output

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.training_run", *map(str, self.arguments)],
                env=self.cluster.environment | {"RAY_ADDRESS": self.cluster.address, "OMP_NUM_THREADS": "1"},
                stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

    def finish(self, driver: subprocess.Popen[bytes]) -> None:
        assert driver.wait(timeout=2 * PATIENCE) == 0, self.log.read_text()[-3000:]

    def steps(self) -> int:
        return max((int(row["step"]) for row in read(self.output.local("metrics.jsonl"))), default=0)

    def wait_for_step(self, driver: subprocess.Popen[bytes], step: int) -> None:
        self.cluster.wait_for(lambda: self.steps() >= step or driver.poll() is not None, f"step {step}")
        assert driver.poll() is None, self.log.read_text()[-3000:]

    def rows(self) -> list[dict[str, Any]]:
        return self.output.read().to_pylist()

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.output.local("model") / "model.safetensors")

    def check_equals(self, other: Run) -> None:
        """The same steps and the same numbers, but for what another process may round differently."""
        mine, theirs = self.weights(), other.weights()
        assert mine.keys() == theirs.keys()
        apart = max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)
        rows, wanted = self.rows(), other.rows()
        assert [row["step"] for row in rows] == [row["step"] for row in wanted] == list(range(1, STEPS + 1))
        losses = max(abs(row["loss"] - want["loss"]) for row, want in zip(rows, wanted, strict=True))
        print(f"largest difference: {apart:.1e} in weights, {losses:.1e} in losses")
        assert apart < ROUNDING and losses < ROUNDING


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def undisturbed(cluster: LocalCluster, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(cluster, model, tmp_path_factory.mktemp("whole"), 5)
    run.finish(run.start())
    assert "restarts" not in run.output.counts()
    return run


def report(what: str, run: Run) -> dict[str, float]:
    """The cost of the interruptions, for docs/training.md (pytest -s)."""
    counts = run.output.counts()
    lost, each = counts["lost_seconds"], counts["seconds"] / counts["steps"]
    print(f"\n{what}: {lost:.1f} s lost, {counts['redone_steps']:.0f} steps made again, {each:.2f} s a step")
    return counts


def trains(process: psutil.Process) -> bool:
    try:
        return any("RayTrainWorker" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def training_nodes(cluster: LocalCluster) -> list[str]:
    """Names of the nodes on which workers train."""
    below = {name: psutil.Process(node.pid).children(recursive=True) for name, node in cluster.nodes.items()}
    return [name for name, processes in below.items() if any(map(trains, processes))]


def test_a_worker_is_killed(cluster: LocalCluster, undisturbed: Run, model: Path, tmp_path: Path) -> None:
    run = Run(cluster, model, tmp_path, 5)
    driver = run.start()
    run.wait_for_step(driver, 13)
    workers = list(filter(trains, cluster.processes()))
    workers[-1].send_signal(signal.SIGKILL)
    run.finish(driver)
    counts = report("a worker killed", run)
    assert counts["restarts"] == 1 and counts["redone_steps"] >= 1 and counts["lost_seconds"] > 0
    run.check_equals(undisturbed)


def test_the_driver_is_killed_and_the_same_command_goes_on(
    cluster: LocalCluster, undisturbed: Run, model: Path, tmp_path: Path
) -> None:
    run = Run(cluster, model, tmp_path, 5)
    driver = run.start()
    run.wait_for_step(driver, 13)
    end(driver)
    made = run.steps()
    run.finish(run.start())
    counts = report("the driver killed", run)
    assert counts["restarts"] == 1 and made >= 13
    run.check_equals(undisturbed)


def test_a_node_is_taken_back_with_notice(cluster: LocalCluster, undisturbed: Run, model: Path, tmp_path: Path) -> None:
    """No checkpoint is due in the whole run: those there are were made because of the notice."""
    run = Run(cluster, model, tmp_path, 1000)
    driver = run.start()
    run.wait_for_step(driver, 8)
    name = training_nodes(cluster)[0]
    node = cluster.node_id(name)
    drain = [*RAY, "drain-node", f"--address={cluster.address}", f"--node-id={node}"]
    drain += [
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=test",
        f"--deadline-remaining-seconds={NOTICE}",
    ]
    subprocess.run(drain, env=cluster.environment, check=True, capture_output=True, text=True)
    began = time.time()  # a little after the notice's own clock
    folder = run.output.local("checkpoints")
    cluster.wait_for(lambda: checkpoint.complete(folder) or driver.poll() is not None, "a checkpoint")
    assert driver.poll() is None, run.log.read_text()[-3000:]
    print(f"\nfirst checkpoint {time.time() - began:.1f} s after the drain began")
    time.sleep(max(0.0, began + NOTICE - time.time()))
    cluster.kill_node(name)
    run.finish(driver)
    cluster.add_node(f"{name}-again", 1)
    counts = report("a node taken back with notice", run)
    assert counts["restarts"] == 1 and len(checkpoint.complete(folder)) >= 1
    run.check_equals(undisturbed)


def test_a_node_is_lost_without_a_word(cluster: LocalCluster, undisturbed: Run, model: Path, tmp_path: Path) -> None:
    run = Run(cluster, model, tmp_path, 5)
    driver = run.start()
    run.wait_for_step(driver, 13)
    cluster.kill_node(training_nodes(cluster)[0])
    run.finish(driver)
    counts = report("a node lost", run)
    assert counts["restarts"] == 1
    run.check_equals(undisturbed)
    shutil.rmtree(tmp_path, ignore_errors=True)
