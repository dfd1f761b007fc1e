"""Stage synthesis with the world as its writer, through the store."""

from __future__ import annotations

import pytest

from app.errors import UserError
from app.graph import build
from app.plan import plan
from app.problems import stage as problems_stage
from app.problems import synthesis_stage
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem
from app.stage import StageContext


def recipe(**synthesis: object) -> Recipe:
    world = {"source": {"kind": "world"}, "train": 20, "validation": 5, "test": 10}
    return Recipe.model_validate({"name": "t", "problems": world, "synthesis": {"count": 30, **synthesis}})


def run(recipe: Recipe, root: str) -> tuple[list[Problem], list[Problem], dict[str, float]]:
    """(problems of the source, what synthesis kept, its counts)."""
    first, second = plan(build(recipe), root)[:2]
    problems_stage.run(StageContext(first.stage, recipe, {}, first.output, Progress("problems")))
    inputs = {"problems": first.output}
    synthesis_stage.run(StageContext(second.stage, recipe, inputs, second.output, Progress("synthesis")))
    return Problem.from_table(first.output.read()), Problem.from_table(second.output.read()), second.output.counts()


def test_the_world_writes_solved_problems_unlike_all_others(tmp_path: object) -> None:
    source, written, counts = run(recipe(), str(tmp_path))
    assert len(written) == counts["problems"] > 20
    assert {p.split for p in written} == {"train"}
    assert all(p.solution for p in written)
    assert not {p.id for p in written} & {p.id for p in source}


def test_every_candidate_is_kept_or_counted(tmp_path: object) -> None:
    _, written, counts = run(recipe(near_duplicate=0.05), str(tmp_path))
    dropped = sum(value for name, value in counts.items() if name.startswith("dropped"))
    assert dropped > 0
    assert counts["asked"] == len(written) + dropped


def test_seeds_are_kept_on_request(tmp_path: object) -> None:
    source, written, _ = run(recipe(keep_seeds=True), str(tmp_path))
    assert {p.id for p in source if p.split == "train"} <= {p.id for p in written}


def test_the_world_writes_for_the_world_only(tmp_path: object) -> None:
    file = f"{tmp_path}/p.jsonl"
    with open(file, "w") as out:
        out.write('{"question": "What is one and one?", "answer": "#### 2"}\n')
    test = f"{tmp_path}/t.jsonl"
    with open(test, "w") as out:
        out.write('{"question": "What is one and two?", "answer": "#### 3"}\n')
    source = {"source": {"kind": "file", "train": file, "test": test}}
    other = Recipe.model_validate({"name": "t", "problems": source, "synthesis": {"count": 3}})
    with pytest.raises(UserError, match="the problems are not the world's"):
        run(other, str(tmp_path))
