"""A recipe for one's own files: what is seen in them, and that the plan takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.recipe import load
from jobs import init, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def made(rows: list[dict[str, Any]], *more: str) -> int:
    train, test = write("train.jsonl", rows), write("test.jsonl", [row | {next(iter(row)): "5 + 4?"} for row in rows])
    return init.main(["--model", "world", "--train", train, "--test", test, *more])


@pytest.mark.parametrize(
    ("row", "form", "runs"),
    [
        ({"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}, "gsm8k", {"sft", "rft", "dpo", "step_dpo"}),
        ({"problem": "1 + 1?", "solution": "\\boxed{2}"}, "boxed", {"sft", "rft", "dpo", "step_dpo"}),
        ({"prompt": "1 + 1?", "answer": 2}, "plain", {"rft", "dpo", "step_dpo"}),
        (
            {"problem": "1 + 1?", "answer": "2", "solution": "It is 2."},
            "plain",
            {"sft", "rft", "dpo", "step_dpo"},
        ),
    ],
)
def test_the_files_tell_columns_and_form(
    row: dict[str, Any], form: str, runs: set[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made([row]) == 0, capsys.readouterr().err
    recipe = load("mine.yaml")
    source = recipe.problems.source
    assert (source.question_field, source.answer_format) == (next(iter(row)), form)  # type: ignore[union-attr]
    assert set(recipe.runs) == runs and "eightfold plan mine.yaml" in capsys.readouterr().out
    assert run.main(["mine.yaml", "--plan"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_gpus_and_chat(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init.main([*given([{"question": "1?", "answer": "1"}]), "--gpus", "4", "--chat", "--out", "a.yaml"]) == 0
    recipe = load("a.yaml")
    assert recipe.placement.training.workers == 4 and recipe.placement.sampling.gpus == 1
    assert recipe.rendering.template == "chat" and "####" in recipe.rendering.prompt


def given(rows: list[dict[str, Any]]) -> list[str]:
    return ["--model", "some/model", "--train", write("train.jsonl", rows), "--test", write("test.jsonl", rows)]


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([{"asked": "1 + 1?", "answer": "2"}], [], "train.jsonl:1: no column for the question among asked, answer"),
        ([{"question": "1?"}], [], "no column for the answer among question"),
        ([], [], "train.jsonl: no rows in it"),
        ([{"question": "1?", "answer": "1"}], ["--name", "a b"], "--name a b: letters"),
    ],
)
def test_what_it_cannot_tell_is_said(
    rows: list[dict[str, Any]], more: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(rows, *more) == 2
    assert said in capsys.readouterr().err and not Path("mine.yaml").exists()


def test_a_recipe_that_is_there_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("mine")
    assert made([{"question": "1?", "answer": "1"}]) == 2
    assert "is there already" in capsys.readouterr().err and Path("mine.yaml").read_text() == "mine"
