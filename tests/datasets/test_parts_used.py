"""What a recipe asks of data sets and splits is used, or it is an error before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import UserError
from app.graph import build
from app.recipe import load

BODY: dict[str, Any] = {
    "name": "parts",
    "problems": {"source": {"kind": "world"}, "train": 4, "validation": 2, "test": 4},
    "sampling": {"samples": 2},
    "runs": {"rft": {"method": "rft", "steps": 1}},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "parts.yaml"
    path.write_text(yaml.safe_dump(BODY))
    return path


def test_rft_on_own_traces_alone_needs_no_teacher(recipe: Path) -> None:
    stages = {stage.name: stage for stage in build(load(str(recipe), ["runs.rft.teacher=false"]))}
    assert "datasets/teacher" not in stages and "teacher" not in stages["datasets/rft"].inputs
    assert stages["training/rft"].inputs["dataset"] == "datasets/rft"
    stages = {stage.name: stage for stage in build(load(str(recipe)))}
    assert stages["datasets/rft"].inputs["teacher"] == "datasets/teacher"


def test_evaluation_on_validation_problems_needs_some(recipe: Path, tmp_path: Path) -> None:
    asked = ["evaluation.split=validation"]
    build(load(str(recipe), asked))
    with pytest.raises(UserError, match="evaluation.split is validation: no validation problems"):
        build(load(str(recipe), [*asked, "problems.validation=0"]))
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    files = f"problems={{source: {{kind: file, train: {lines}, test: {lines}}}}}"
    with pytest.raises(UserError, match="evaluation.split is validation: no validation problems"):
        build(load(str(recipe), [*asked, files]))
    build(load(str(recipe), [*asked, files, f"problems.source.validation={lines}"]))
    build(load(str(recipe), [*asked, "problems={source: {kind: hub, name: a/b, validation_split: dev}}"]))


def test_a_proportional_budget_of_nothing_is_an_error(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"proportional scales stopping.correct, which is 0"):
        load(str(recipe), ["sampling.stopping={correct: 0, incorrect: 2, budget: proportional}"])
