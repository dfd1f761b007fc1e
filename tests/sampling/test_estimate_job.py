"""`python -m jobs.estimate` without a model: what it prints, what it refuses, and that it keeps nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.graph import build
from app.plan import plan
from app.problems.select import write_problems
from app.problems.world import make_problems
from app.recipe import load
from app.sampling import stage
from app.sampling.scripted import ScriptedEngine, digits
from jobs.estimate import main

RECIPE: dict[str, Any] = {
    "name": "guess",
    "problems": {"train": 40, "validation": 1, "test": 1},
    "sampling": {"samples": 4, "problems_per_shard": 2},
    "prices": {"currency": "EUR", "cpu_hour": 36.0},
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stage.SamplingWorker, "start_engine", lambda _: ScriptedEngine(digits, lambda _: 0.01))
    file = tmp_path / "guess.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    return file


def with_problems(recipe: Path, runs: Path) -> None:
    [step] = [step for step in plan(build(load(str(recipe))), str(runs / "guess")) if step.stage.name == "problems"]
    write_problems(step.output, make_problems(0, 40, "train"), {})
    step.output.finish({})


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("stopping", [None, {"correct": 1, "incorrect": 1}])
def test_a_pilot_is_sampled_judged_and_scaled_up(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stopping: dict[str, int] | None
) -> None:
    with_problems(recipe, tmp_path / "runs")
    before = files(tmp_path)
    assert (
        main(
            [
                str(recipe),
                "--runs",
                str(tmp_path / "runs"),
                "--problems",
                "5",
                "--set",
                f"sampling.stopping={stopping or 'null'}",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert files(tmp_path) == before
    lines = {line.split(":")[0].strip(): line for line in said.splitlines()}
    assert "pilot: 5 problems" in said
    assert "the whole stage: 40 problems" in said
    if stopping is None:
        assert "20 traces" in lines["pilot"] and "160 traces" in lines["the whole stage"]
    tokens = int(lines["pilot"].split()[-2].replace(",", ""))
    assert f"tokens: {tokens * 8:,} (" in lines["tokens"]
    assert "EUR" in lines["cost"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "its input problems has not run"),
        (["--problems", "0"], "give at least 1"),
        (["--set", "sampling=null"], "no sampling part"),
        (["--policy", "sft"], "--policy sft: the recipe does not sample it"),
    ],
)
def test_what_cannot_be_estimated_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert main([str(recipe), "--runs", str(tmp_path / "runs"), *more]) == 2
    assert says in capsys.readouterr().err
