"""Greedy accuracy of checkpoints beside a training, with a scripted engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.during import HeldOut, arguments
from app.recipe import Recipe
from app.records import Problem
from app.sampling.engine import Completion, Engine, Request
from app.sampling.scripted import ScriptedEngine
from app.store import Output
from tests.evaluation.workers import CONTEXT, ScriptedWorker

LOADED: list[str] = []


class Reloading(ScriptedEngine):
    """Right on as many problems as the name of its weights says."""

    def __init__(self, path: str) -> None:
        super().__init__(self.answer, context_length=CONTEXT)
        self.right = int(path)

    def answer(self, request: Request) -> Completion:
        assert request.temperature == 0
        number = request.prompt_token_ids[0]
        return Completion((5, 6, 2), "#### 1" if number < self.right else "#### 2", "stop")

    async def load_weights(self, path: str) -> None:
        LOADED.append(path)
        self.right = int(path)


class ReloadingWorker(ScriptedWorker):
    def start_engine(self) -> Engine:
        LOADED.append(f"started {self.policy.path}")
        return Reloading(self.policy.path)


class Scripted(HeldOut):
    worker_class = ReloadingWorker


def held_out(root: Path, count: int, split: str = "validation") -> Scripted:
    rows = [Problem(f"p-{n:02d}", chr(ord("a") + n) + "xyz", "1", split, "made-up") for n in range(12)]
    rows += [Problem("p-test", "aaa", "2", "test", "made-up")]
    problems = Output(str(root), "problems", "k")
    problems.write_shard(0, Problem.table(rows))
    recipe: dict[str, Any] = {
        "name": "test",
        "problems": {"train": 1, "validation": 1, "test": 1},
        "evaluation": {"samples": 3, "problems_per_shard": 4, "max_tokens": 8, "split": "test"},
    }
    return Scripted(*arguments(Recipe.model_validate(recipe)), problems, count)


def test_one_engine_answers_for_every_checkpoint(tmp_path: Path) -> None:
    """Greedily, on the first problems of the validation split, whatever the recipe's own evaluation asks."""
    LOADED.clear()
    evaluator = held_out(tmp_path, 10)

    async def all_three() -> list[dict[str, float]]:
        return [await evaluator.evaluate(path, f"k@{path}") for path in ("3", "7", "5")]

    rows = asyncio.run(all_three())
    assert [row["accuracy"] for row in rows] == [0.3, 0.7, 0.5]
    assert [row["correct"] for row in rows] == [3, 7, 5]
    assert {(row["judged"], row["answer_tokens"]) for row in rows} == {(10.0, 3.0)}
    assert LOADED == ["started 3", "7", "5"]


def test_adapters_are_served_one_after_the_other_on_one_engine(tmp_path: Path) -> None:
    """What LoRA without merge offers: nothing is loaded into the base's engine."""

    class Serving(Reloading):
        def serving(self, adapter: str | None) -> Serving:
            LOADED.append(f"serving {adapter}")
            return Serving("9")

    class Worker(ScriptedWorker):
        def start_engine(self) -> Engine:
            LOADED.append(f"started {self.policy.path} with {self.policy.adapter}")
            return Serving("4")

    LOADED.clear()
    evaluator = held_out(tmp_path, 10)
    evaluator.worker_class = Worker
    folders = [tmp_path / "step-1", tmp_path / "step-2"]
    for folder in folders:
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')

    async def both() -> list[float]:
        return [(await evaluator.evaluate(str(folder), "k"))["accuracy"] for folder in folders]

    assert asyncio.run(both()) == [0.4, 0.9]
    told = [f"started someone/model with {folders[0]}", f"serving {folders[1]}"]
    assert told == LOADED


def test_more_problems_than_there_are_is_all_of_them(tmp_path: Path) -> None:
    row = asyncio.run(held_out(tmp_path, 200).evaluate("6", "k@6"))
    assert (row["judged"], row["accuracy"]) == (12.0, 0.5)


def test_no_validation_problems_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no validation problems there; raise problems.validation"):
        asyncio.run(held_out(tmp_path, 10, split="train").evaluate("1", "k@1"))
