"""Shipped commands: their private Ray is closed to other machines, and a stop ends them at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.scratch import scratch
from tests.runs import TINY, recipe_file
from tests.watching import PATIENCE, ROOT, Watched

RAY = {"gcs_server", "raylet"}
FAST = 5.0  # seconds in which a stop is promised


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Ray's sockets have a length limit."""
    path = Path(tempfile.mkdtemp(prefix="w-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def watch(folder: Path) -> Iterator[Callable[..., Watched]]:
    started = []

    def begin(*command: str) -> Watched:
        started.append(Watched(folder, *command))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def job(name: str, folder: Path) -> list[str]:
    """The command of a job that starts a Ray."""
    runs = ["--runs", str(folder / "runs")]
    if name == "verify":
        rows = [{"reference": str(n), "text": f"#### {n}"} for n in range(20_000)]
        (folder / "traces.jsonl").write_text("\n".join(map(json.dumps, rows)))
        files = ["--traces", str(folder / "traces.jsonl"), "--out", str(folder / "out.jsonl")]
        return ["jobs.verify", *files, "--actors", "1"]
    recipe = str(recipe_file(folder, TINY))
    if name == "eightfold":
        return ["jobs", "run", recipe, *runs]  # what the script does
    return ["jobs.run", recipe, *runs] if name == "run" else ["jobs.curve", recipe, *runs, "--sizes", "20,40"]


def ray_works(names: set[str]) -> bool:
    return names >= RAY and any(name.startswith("ray::") and "Agent" not in name for name in names)


def vllm_runs(names: set[str]) -> bool:
    return any("EngineCor" in name for name in names)


def training_runs(names: set[str]) -> bool:
    return any("RayTrainWo" in name for name in names)


def stopped(watched: Watched, number: signal.Signals, within: float = FAST) -> None:
    """Stop it and check all that a stop promises, the sockets until then as well."""
    code, took, lines = watched.stop(number)
    assert (code, len(lines)) == (128 + number, 1), lines
    assert "run the same command again to go on" in lines[0]
    assert took < within
    assert watched.left() == []
    assert watched.listening == set()
    assert not (watched.home / ".ray" / "auth_token").exists()


def test_a_run_keeps_to_this_machine_and_ctrl_c_ends_it(folder: Path, watch: Callable[..., Watched]) -> None:
    watched = watch(*job("eightfold", folder))
    progress = folder / "runs" / "tiny" / "progress.json"
    watched.until(lambda names: ray_works(names) and progress.exists())
    stopped(watched, signal.SIGINT, within=60)  # beside other tests; the slow ones hold it to its promise
    assert json.loads(progress.read_text())["state"] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "verify", "curve"])
def test_so_do_the_other_jobs(name: str, folder: Path, watch: Callable[..., Watched]) -> None:
    watched = watch(*job(name, folder))
    watched.until(ray_works)
    stopped(watched, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moment",
    [
        lambda names: len(names) > 0,  # imports, of the job's own modules
        lambda names: "gcs_server" in names,  # Ray starts
        lambda names: "raylet" in names,  # the driver connects, in C++
        vllm_runs,
        training_runs,
    ],
    ids=["imports", "gcs", "raylet", "engine", "training"],
)
def test_a_stop_at_any_moment(
    moment: Callable[[set[str]], bool], number: signal.Signals, folder: Path, watch: Callable[..., Watched]
) -> None:
    watched = watch(*job("run", folder))
    watched.until(lambda names: len(watched.family) > 1 and moment(names))  # two: the watcher and the job
    stopped(watched, number)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_run_never_listens_beyond_this_machine(folder: Path, watch: Callable[..., Watched]) -> None:
    watched = watch(*job("run", folder))
    assert watched.to_the_end() == 0, watched.text
    assert watched.listening == set()
    assert watched.left() == []


def test_the_loss_of_the_watcher_ends_the_job_and_the_next_start_sweeps(
    folder: Path, watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(*job("run", folder))
    watched.until(lambda names: len(watched.family) > 1 and "raylet" in names)
    watched.process.kill()
    watched.until_gone()
    [left] = watched.temporary.glob("eightfold-*")
    monkeypatch.setattr(tempfile, "tempdir", str(watched.temporary))
    end = time.monotonic() + PATIENCE
    while left.exists():  # a Ray that dies may still write into it, and then the start after that one sweeps it
        with scratch():
            assert time.monotonic() < end
            time.sleep(0.1)


def test_an_exit_code_is_the_jobs_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.run", "no-such-recipe"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "error: " in done.stderr


def test_ray_imported_too_early_is_an_error() -> None:
    code = "import ray\nfrom app.cluster import ray_session\nwith ray_session(): pass"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "ray was imported before" in done.stderr
