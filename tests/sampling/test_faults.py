"""Real engines killed in the middle of the stage: the same ids in the end, none twice, and no process left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.policy import base_policy
from app.problems.world import make_problems
from app.records import Problem, Trace, trace_id
from app.sampling import stage
from app.stage import StageContext
from tests.sampling.test_stage import context

PATIENCE = 300.0  # seconds until something that should happen counts as failed; engines start slowly on busy machines


def descendants(marker: str) -> list[psutil.Process]:
    """Processes below this one whose name or command line holds the marker."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and marker in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.05)


def world(asked: StageContext, count: int) -> list[Problem]:
    """Replace the problems by real ones of the world."""
    found = make_problems(3, count, "train")
    asked.inputs["problems"].write_shard(0, Problem.table(found))
    return found


@pytest.mark.slow
def test_engines_and_actors_killed_again_and_again_lose_nothing(ray_local: str, tmp_path: Path) -> None:
    place = {"kv_cache_gib": 0.25, "cpus": 1, "concurrent_shards": 2}
    asked = context(tmp_path, place, samples=16, max_tokens=120, problems_per_shard=4)
    problems = world(asked, 480)
    output, failure = asked.output, []

    def run() -> None:
        try:
            stage.run(asked)
        except BaseException as error:
            failure.append(error)

    job = threading.Thread(target=run)
    job.start()
    for number, marker in enumerate(["EngineCore", "MapWorker", "EngineCore"], 1):
        wait_for(lambda n=number: len(output.done_shards()) >= 5 * n or not job.is_alive(), f"{5 * number} shards")
        assert job.is_alive(), failure or "the stage ended before it could be disturbed: give it more problems"
        victims = descendants(marker)
        assert victims, f"no process is called {marker}"
        for victim in victims:
            victim.kill()
    job.join(PATIENCE)
    assert not job.is_alive() and not failure, failure
    policy = base_policy(asked.recipe.model).fingerprint
    order = sorted(p.id for p in problems)
    expected = [trace_id(p, sample, policy) for p in order for sample in range(16)]
    assert [t.id for t in Trace.from_table(output.read())] == expected
    wait_for(lambda: not descendants("EngineCore"), "the engines to end")


@pytest.mark.slow
def test_an_engine_that_cannot_start_ends_the_job_with_one_diagnosis(ray_local: str, tmp_path: Path) -> None:
    asked = context(tmp_path, {"kv_cache_gib": 100_000, "actors": 2}, samples=2)
    world(asked, 8)
    with pytest.raises(
        Exception, match=r"engine does not start: \w+Error: Available memory .* is less than requested memory"
    ):
        stage.run(asked)
    assert asked.output.done_shards() == []
    wait_for(lambda: not descendants("EngineCore"), "the engines to end")
