"""The curve job: which runs it makes, and a whole curve on the real engines."""

from __future__ import annotations

import argparse
import json
import posixpath
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.graph import build
from app.plan import Step, keys_of, plan
from app.recipe import Recipe, load
from app.records import Trace, Verdict
from app.study.cells import Cell, Point, cells, points_of
from app.study.ledger import Ledger
from jobs import curve as job
from jobs import study as study_job
from jobs.curve import arguments, numbers, study_of
from tests.runs import ROOT, TINY, recipe_file


def recipe(folder: Path, **changes: Any) -> str:
    return str(recipe_file(folder, TINY | changes))


def planned(folder: Path, *more: str, **changes: Any) -> list[Cell]:
    args = arguments([recipe(folder, **changes), "--sizes", "10,20", *more])
    return cells(study_of(load(args.recipe, args.set), args), args.recipe, args.recipe)


@pytest.mark.parametrize(("text", "found"), [("3,1,2", [1, 2, 3]), ("5", [5]), ("7,7,", [7])])
def test_numbers(text: str, found: list[int]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize("text", ["", "a", "1,b", "-1", "1.5", ","])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        numbers(text)


def test_all_methods_at_the_sizes_and_sft_alone_at_the_others(tmp_path: Path) -> None:
    found = planned(tmp_path, "--baseline-sizes", "40,80")
    assert [(cell.size, cell.runs) for cell in found] == [
        (10, ("sft", "step_dpo")),
        (20, ("sft", "step_dpo")),
        (40, ("sft",)),
        (80, ("sft",)),
    ]
    assert [cell.recipe.synthesis.count for cell in found] == [10, 20, 40, 80]


def test_a_size_named_twice_runs_all_methods_once(tmp_path: Path) -> None:
    found = planned(tmp_path, "--baseline-sizes", "20,40")
    assert [(cell.size, len(cell.runs)) for cell in found] == [(10, 2), (20, 2), (40, 1)]


def test_training_problems_are_the_size_where_nothing_is_written(tmp_path: Path) -> None:
    changes = {"synthesis": None, "problems": {"source": {"kind": "world"}, "train": 6, "validation": 2, "test": 12}}
    assert [cell.recipe.problems.train for cell in planned(tmp_path, **changes)] == [10, 20]


def test_what_is_set_is_set_for_all_sizes(tmp_path: Path) -> None:
    found = planned(tmp_path, "--set", "runs.sft.learning_rate=1e-05", "--set", "problems.test=20")
    assert [cell.recipe.problems.test for cell in found] == [20, 20]
    assert found[0].recipe.trained()["sft"].training.learning_rate == 1e-5  # type: ignore[union-attr]


def test_sft_alone_is_the_sft_of_the_whole_recipe(tmp_path: Path) -> None:
    [cell] = [c for c in planned(tmp_path, "--baseline-sizes", "40") if c.size == 40]
    [point] = points_of(cell)
    assert point.key == keys_of(build(load(recipe(tmp_path), ["synthesis.count=40"])))["evaluation/sft"]


def test_parts_that_do_not_fit_end_the_job_before_its_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study_job, "run_all", lambda *_: pytest.fail("a run was started"))
    more = {"method": "rft", "samples": "sft", "drop_lucky_wrong": True, "steps": 1}
    path = recipe(tmp_path, runs=TINY["runs"] | {"more": more})  # type: ignore[operator]
    assert job.main([path, "--sizes", "10", "--runs", str(tmp_path / "runs")]) == 2
    assert "set credit.correct_traces above 0" in capsys.readouterr().err


def test_seeds_are_runs_of_their_own(tmp_path: Path) -> None:
    found = planned(tmp_path, "--seeds", "0,3")
    assert [(cell.recipe.seed, cell.size) for cell in found] == [(0, 10), (0, 20), (3, 10), (3, 20)]


def test_the_world_is_the_same_test_at_every_size(tmp_path: Path) -> None:
    keys = [keys_of(build(cell.recipe)) for cell in planned(tmp_path)]
    assert keys[0]["problems"] == keys[1]["problems"] and keys[0]["evaluation/base"] == keys[1]["evaluation/base"]
    assert keys[0]["training/sft"] != keys[1]["training/sft"]


def test_without_sft_there_is_nothing_to_read_against(tmp_path: Path) -> None:
    runs = {"rft": {"method": "rft", "steps": 1}}
    with pytest.raises(UserError, match="add a run of method sft"):
        planned(tmp_path, runs=runs, credit=None, sampling={"samples": 2})


def answer(step: Step, size: int, tests: range) -> None:
    """What evaluation would write: the first problem is solved, and more of them the larger the size."""
    traces = [Trace(f"t{n}", f"p{n}", 0, 0, "policy", [1], [2], "", "stop") for n in tests]
    right = {f"t{n}" for n in tests if n * 20 < size}
    verdicts = [Verdict(t.id, "correct" if t.id in right else "incorrect", "1", "", "", 0.0) for t in traces]
    step.output.write_shard(0, Verdict.table(verdicts), kind="verdicts")
    step.output.write_shard(0, Trace.table(traces))


def run_answered(folder: Path, monkeypatch: pytest.MonkeyPatch, tests: dict[int, range], *more: str) -> int:
    """The job over stages that are scripted, of which evaluation's answers are made up."""

    def run(recipe: Recipe, root: str, until: Sequence[str]) -> list[Step]:
        assert recipe.synthesis
        for step in plan(build(recipe), root):
            if step.stage.kind == "evaluation" and step.state != "done":
                answer(step, recipe.synthesis.count, tests[recipe.synthesis.count])
            told = {"counts": {"steps": 4.0}, "seconds": 1.0, "rows": 1, "versions": {}, "finished": "now"}
            step.output.finish(told | {"settings": step.stage.settings, "inputs": {}, "revision": 1})
        return plan(build(recipe), root)

    def run_all(left: list[Point], ledger: Ledger, root: str, minutes: float | None) -> None:
        study_job.make(left, ledger, root, run, minutes)

    monkeypatch.setattr(study_job, "run_all", run_all)
    return job.main([recipe(folder), "--runs", str(folder / "runs"), *more])


def test_different_test_problems_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = {20: range(8), 40: range(9)}
    assert run_answered(tmp_path, monkeypatch, tests, "--sizes", "20,40") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: SFT at 40 was tested on other problems than SFT at 20 (1 only there, 0 only here)")
    assert said.count("\n") == 1


def test_why_a_reading_is_missing_is_printed_below_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_answered(tmp_path, monkeypatch, {20: range(8)}, "--sizes", "20") == 0
    assert "– no reading for per-step DPO at 20: SFT was trained at fewer than two sizes" in capsys.readouterr().out
    run = tmp_path / "runs" / "tiny"
    assert (run / "curve" / "index.html").read_text().count("no reading for") == 1
    assert json.loads((run / "recipe.json").read_text())["synthesis"]["count"] == 40  # the recipe's own


@pytest.mark.slow
@pytest.mark.timeout(2400)  # three whole runs: busy machines take many minutes
def test_a_curve_on_the_real_engines(tmp_path: Path) -> None:
    """Two sizes of everything, one more of SFT; a second call reuses all of it."""
    line = [sys.executable, "-m", "jobs.curve", recipe(tmp_path), "--runs", str(tmp_path / "runs")]
    line += ["--sizes", "20,40", "--baseline-sizes", "60"]
    first = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert first.returncode == 0, first.stderr[-3000:]
    root = tmp_path / "runs" / "tiny"
    found = json.loads((root / "curve" / "results.json").read_text())["curves"]["greedy"]
    sizes = {method: [p["size"] for p in series["points"]] for method, series in found["methods"].items()}
    assert sizes == {"SFT": [20, 40, 60], "per-step DPO": [20, 40]}
    assert (root / "curve" / "index.html").read_text().startswith("<!doctype html>")
    assert json.loads((root / "recipe.json").read_text())["synthesis"]["count"] == 40
    shards = {posixpath.relpath(p, root): p.stat().st_mtime_ns for p in root.rglob("*.parquet")}
    second = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert second.returncode == 0, second.stderr[-3000:]
    assert {posixpath.relpath(p, root): p.stat().st_mtime_ns for p in root.rglob("*.parquet")} == shards
