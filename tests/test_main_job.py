"""The main job on the real engines: vLLM in Ray Data actors, DeepSpeed under Ray Train, files."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.runs import TINY, ids, recipe_file, run, start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(recipe, folder of runs, console output) of one undisturbed run."""
    folder = tmp_path_factory.mktemp("main")
    recipe = recipe_file(folder, TINY)
    return recipe, folder / "runs", run(recipe, folder / "runs")


def test_it_ends_with_accuracies_and_a_report(finished: tuple[Path, Path, str]) -> None:
    _, runs, out = finished
    results = json.loads((runs / "tiny" / "results.json").read_text())
    assert set(results["methods"]) == {"base", "sft", "step_dpo"}
    assert (runs / "tiny" / "report" / "index.html").stat().st_size > 10_000
    assert "per-step DPO" in out
    assert out.rstrip().endswith("tiny/report/index.html")


def test_every_trace_has_one_verdict_and_every_id_occurs_once(finished: tuple[Path, Path, str]) -> None:
    _, runs, _ = finished
    found = {name.split("/")[0] + ":" + name.rpartition("/")[2]: rows for name, rows in ids(runs / "tiny").items()}
    traces, verdicts = found["sampling:part"], found["verification:part"]
    assert len(traces) == len(set(traces)) == 40 * 6
    assert verdicts == traces
    assert len(set(found["credit:part"])) == len(found["credit:part"]) > 0


def test_a_second_run_reuses_everything(finished: tuple[Path, Path, str]) -> None:
    recipe, runs, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (runs / "tiny").rglob("*.parquet")}
    out = run(recipe, runs, timeout=120)
    assert {path: path.stat().st_mtime_ns for path in (runs / "tiny").rglob("*.parquet")} == before
    assert "per-step DPO" in out


@pytest.mark.slow
def test_more_actors_and_other_places_ask_the_same(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Sampling again with two actors, smaller batches and other shards in flight gives the same ids."""
    recipe, runs, _ = finished
    wide = [
        "placement.sampling.actors=2",
        "placement.sampling.max_num_seqs=7",
        "placement.sampling.concurrent_shards=2",
    ]
    other = tmp_path / "runs"
    other.mkdir()
    for stage in ("problems", "synthesis", "datasets", "training"):
        (other / "tiny" / stage).parent.mkdir(exist_ok=True)
        (other / "tiny" / stage).symlink_to(runs / "tiny" / stage)
    run(recipe, other, "--only", "sampling", *[part for pair in wide for part in ("--set", pair)])
    first, again = (
        {name: rows for name, rows in ids(root / "tiny").items() if name.startswith("sampling/")}
        for root in (runs, other)
    )
    assert again and first == again


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_ids(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    recipe, runs, _ = finished
    rng = random.Random(time.time_ns())
    for attempt in range(4):
        process = start(recipe, tmp_path / "runs", log=tmp_path / "killed.log")
        delay = rng.uniform(5, 60)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"attempt {attempt}: killed after {delay:.1f} s")
    run(recipe, tmp_path / "runs")
    assert ids(tmp_path / "runs" / "tiny") == ids(runs / "tiny")


def test_an_unwritable_run_folder_is_one_clear_error(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, TINY)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    log = tmp_path / "log"
    assert start(recipe, blocked, log=log).wait(120) == 2
    assert "error: cannot write in run folder" in log.read_text()
