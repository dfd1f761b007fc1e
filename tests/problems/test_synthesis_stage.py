"""Stage synthesis with the world as its writer, through the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.graph import build
from app.plan import plan
from app.problems import stage as problems_stage
from app.problems import synthesis_stage
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem
from app.shardmap import Pool
from app.stage import StageContext
from tests.cluster.endpoint import Endpoint


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
    assert counts["attempts"] == len(written) + dropped


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


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A writer of small sums, behind HTTP."""
    served = Endpoint(None)
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are made in this process: starting actors for each wave would take most of a test's time."""

    def complete(
        context: StageContext, worker: type, arguments: tuple[Any, ...], shards: int, _pool: Pool, kind: str
    ) -> None:
        async def all_of() -> None:
            made = worker(*arguments)
            for index in context.pending(shards, kind):
                await made.process(index)

        asyncio.run(all_of())

    monkeypatch.setattr(synthesis_stage, "complete", complete)


def by_endpoint(endpoint: Endpoint, **synthesis: object) -> Recipe:
    writer = {"kind": "openai", "base_url": endpoint.base, "model": "m"}
    return recipe(writer=writer, vote={"solutions": 3, "agreement": 0.6}, **synthesis)


def check_refill(endpoint: Endpoint, folder: Path) -> None:
    """Most sums are near duplicates of each other, so that waves must follow the first; then it goes on from files."""
    mixed = {"similar": 2, "persona": 1}
    asked = by_endpoint(endpoint, count=20, near_duplicate=0.5, strategies=mixed, budget={"attempts": 20})
    _, written, counts = run(asked, str(folder))
    requests = len(endpoint.asked)
    assert len({p.id for p in written}) == counts["problems"] == 20 < counts["attempts"]
    assert all(p.solution and p.solution.endswith(f"#### {p.answer}") for p in written)
    dropped = sum(value for name, value in counts.items() if name.startswith("dropped"))
    assert counts["attempts"] == 20 + dropped
    assert counts["requests"] == requests

    [made] = (folder / "synthesis").iterdir()
    story = json.loads((made / "yield.json").read_text())
    assert sum(sum(ends.values()) for ends in story["by_strategy"].values()) == counts["attempts"]
    assert sum(ends["kept"] for ends in story["by_strategy"].values()) == 20
    assert set(story["by_strategy"]) == {"similar", "persona"}
    certificate = json.loads((made / "contamination.json").read_text())
    assert certificate["kept"] == 20 <= certificate["compared"] <= counts["attempts"]

    sorted(made.glob("candidates-*.parquet"))[1].unlink()  # as after a kill in the second wave
    (made / "part-00000.parquet").unlink()
    _, again, recounted = run(asked, str(folder))
    assert again == written and recounted == counts
    assert json.loads((made / "contamination.json").read_text()) == certificate
    assert len(endpoint.asked) - requests == requests / 2  # one of two shards was there


def test_a_writer_is_asked_until_there_are_enough(endpoint: Endpoint, tmp_path: Path, here: None) -> None:
    check_refill(endpoint, tmp_path)


@pytest.mark.slow
def test_so_it_is_by_actors(endpoint: Endpoint, tmp_path: Path, ray_local: str) -> None:
    check_refill(endpoint, tmp_path)


def test_the_budget_ends_what_a_poor_writer_cannot(
    endpoint: Endpoint, tmp_path: Path, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    _, written, counts = run(
        by_endpoint(endpoint, count=12, near_duplicate=0.2, budget={"requests": 130}), str(tmp_path)
    )
    assert counts["problems"] == len(written) < 12
    assert counts["requests"] == len(endpoint.asked) <= 130
    assert "synthesis.budget.requests is spent" in capsys.readouterr().err
