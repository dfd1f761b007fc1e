"""Two runs side by side, from their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.graph import build
from app.plan import keys_of
from app.problems.select import write_problems
from app.recipe import Recipe
from app.records import Problem, Trace, Verdict
from app.store import Output
from jobs.compare import main

BODY = {"name": "made-up", "problems": {"train": 2, "validation": 0, "test": 6}, "evaluation": {"samples": 0}}
MANIFEST = {"shards": 1, "counts": {}, "finished": "", "settings": {}, "inputs": {}, "revision": 1}


def made(root: Path, right: set[int], **parts: object) -> str:
    """A run whose base policy answers the problems of these numbers right."""
    recipe = Recipe.model_validate(BODY | parts)
    keys = keys_of(build(recipe))
    problems, answers = (Output(str(root), stage, keys[stage]) for stage in ("problems", "evaluation/base"))
    write_problems(problems, [Problem(f"p{n}", f"{n} + {n}?", str(2 * n), "test", "t") for n in range(6)], {})
    traces = [Trace(f"t{n}", f"p{n}", 0, 0, "w", [1], [2], "", "stop") for n in range(6)]
    outcomes = ["correct" if n in right else "incorrect" for n in range(6)]
    verdicts = [Verdict(f"t{n}", outcome, "", "", "", 0.0) for n, outcome in enumerate(outcomes)]
    answers.write_shard(0, Verdict.table(verdicts), kind="verdicts")
    answers.write_shard(0, Trace.table(traces))
    for output in (problems, answers):
        output.finish(MANIFEST)
    Output(str(root), "", "").write_json("recipe.json", recipe.model_dump(mode="json"))
    return str(root)


def test_settings_accuracies_and_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made(tmp_path / "a", {0, 1, 2})
    second = made(tmp_path / "b", {1, 2, 3, 4}, evaluation={"samples": 0, "max_tokens": 99})
    assert main([first, second, "--problems", "1"]) == 0
    said = capsys.readouterr().out
    assert "evaluation.max_tokens: 512 -> 99" in said or "evaluation.max_tokens:" in said
    assert "50.0% ->   66.7%" in said and "6 problems" in said and "won 2, lost 1" in said
    assert "won: p3: '3 + 3?'" in said and "lost: p0: '0 + 0?'" in said and "won: p4" not in said


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made(tmp_path / "a", {0})
    assert main([first, str(tmp_path / "none")]) == 2
    assert "no run there (no recipe.json)" in capsys.readouterr().err
