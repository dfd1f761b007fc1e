"""Storage that fails in the middle of a stage, on a real local Ray: a full disk, and S3 with a killed driver."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import UserError
from app.records import Trace
from app.sampling import stage
from tests.cluster.scripted_run import ids, ids_without_a_cluster, outputs
from tests.sampling.test_stage import context
from tests.sampling.workers import ScriptedWorker

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ROOM = 48 * 1024  # bytes: enough for some of the shards
PATIENCE = 240.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room, where the tests may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_is_one_error_and_the_next_run_goes_on(
    ray_local: str, small_disk: Path, tmp_path: Path
) -> None:
    """The actors write until nothing fits; half of a shard is never left, and what is there stays."""
    few = {"samples": 200, "problems_per_shard": 2}
    whole = context(tmp_path / "roomy", **few)
    stage.run(whole, ScriptedWorker)
    asked = context(small_disk, {"actors": 2, "cpus": 0.5}, **few)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device.*run the same command again"):
        stage.run(asked, ScriptedWorker)
    done = asked.output.done_shards()
    shards = whole.output.done_shards()
    assert set(done) < set(shards) and asked.output.damaged() == []
    written = {index: Path(asked.output.shard_path(index)).stat().st_mtime_ns for index in done}
    with pytest.raises(UserError, match="No space left on device"):  # still full: the same words, nothing lost
        stage.run(asked, ScriptedWorker)
    assert set(done) <= set(asked.output.done_shards())
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    stage.run(asked, ScriptedWorker)
    assert asked.output.done_shards() == shards and asked.output.damaged() == []
    assert {index: Path(asked.output.shard_path(index)).stat().st_mtime_ns for index in done} == written
    assert Trace.from_table(asked.output.read()) == Trace.from_table(whole.output.read())
    assert [p.name for p in Path(asked.output.uri).iterdir() if p.name.startswith(".")] == []  # halves of files


def start(runs: str, seconds: float) -> subprocess.Popen[str]:
    """The scripted job on a private Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "tests/cluster/scripted_run.py", runs, str(seconds)],
        env=environment | {"PYTHONPATH": str(ROOT), "SCRIPTED_ACTORS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all end within a while. Ray's own agent of the dashboard takes more than a minute to miss its node."""
    _, left = psutil.wait_procs(processes, timeout=PATIENCE)
    return not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_drivers_killed_over_s3_lose_nothing_and_leave_no_process(bucket: str, tmp_path: Path) -> None:
    """kill -9 of the driver alone, of a private Ray, while shards are uploaded; then once to the end."""
    runs, rng, before = f"{bucket}/runs", random.Random(5), 0
    traces = outputs(runs)[1]
    for _ in range(2):
        job = start(runs, 0.2)
        deadline = time.monotonic() + PATIENCE
        while len(traces.done_shards()) < before + 3:
            assert job.poll() is None and time.monotonic() < deadline, job.communicate()[0][-4000:]
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5))
        family = psutil.Process(job.pid).children(recursive=True)
        job.send_signal(signal.SIGKILL)
        job.wait(60)
        assert ended(family), "processes of a private Ray outlived its driver"
        assert len(traces.done_shards()) >= before + 3
        before = len(traces.done_shards())
    job = start(runs, 0.0)
    said, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, said[-4000:]
    assert f"sampling: {40 - before} of 40 shards to do" in said
    assert ids(runs) == ids_without_a_cluster(str(tmp_path))
    assert traces.damaged() == []
