"""Credit by real Ray actors with a scripted engine: any number of them, killed at any moment, write the same."""

from __future__ import annotations

import asyncio
import io
import json
import random
from pathlib import Path

import pytest

from app.credit.stage import run
from app.progress import Progress
from app.records import StepValue, Trace, Verdict
from app.stage import Stage, StageContext
from app.store import Output
from tests.credit import student as world
from tests.credit.workers import CROWD, KILLS, LIVES, StudentWorker, WorldRenderer


def credit(folder: Path, ray_local: str, actors: int, search: str, kills: list[int | str]) -> Output:
    """Run the stage in a folder of its own."""
    folder.mkdir()
    made = world.problems()
    recipe = world.recipe(
        placement={"sampling": {"actors": actors, "cpus": 0.5, "concurrent_shards": 1 if actors > 1 else 2}},
        credit={"search": search, "correct_traces": 1},
        sampling={"problems_per_shard": 1},
    )
    inputs = asyncio.run(world.sampled(folder, world.Student(made, world.renderer()), made, recipe))
    (folder / KILLS).write_text(json.dumps(kills))
    (folder / CROWD).write_text(str(actors))
    output = Output(str(folder), "credit", "k")
    stage = Stage("credit/base", run, {}, {name: name for name in inputs}, options={"policy": recipe.model})
    run(StageContext(stage, recipe, inputs, output, Progress("credit", io.StringIO())), StudentWorker)
    return output


Content = tuple[list[StepValue], list[Trace], list[Verdict]]


def content(output: Output) -> Content:
    verdicts = Verdict.from_table(output.read(kind="verdicts"))
    return (
        StepValue.from_table(output.read()),
        Trace.from_table(output.read(kind="rollouts")),
        [Verdict(v.trace_id, v.outcome, v.extracted, v.reason, v.tier, 0.0) for v in verdicts],
    )


@pytest.mark.parametrize("search", ["adaptive", pytest.param("exhaustive", marks=pytest.mark.slow)])
def test_one_actor_and_three_write_the_same(ray_local: str, tmp_path: Path, search: str) -> None:
    one, three = (credit(tmp_path / str(n), ray_local, n, search, []) for n in (1, 3))
    assert content(one) == content(three)
    assert len(content(one)[0]) > 50
    assert (tmp_path / "3" / LIVES).stat().st_size == 3


def test_the_actors_renderer_is_the_products() -> None:
    light, whole = WorldRenderer(), world.renderer()
    for problem in world.problems():
        assert light.prompt_ids(problem.statement) == whole.prompt_ids(problem.statement)
        ids = light.completion_ids(f"{problem.answer} + 0 = {problem.answer}\n#### {problem.answer}")
        assert ids == whole.completion_ids(whole.decode(ids)) and light.decode(ids) == whole.decode(ids)


@pytest.fixture(scope="module")
def undisturbed(ray_local: str, tmp_path_factory: pytest.TempPathFactory) -> Content:
    return content(credit(tmp_path_factory.mktemp("credit") / "whole", ray_local, 1, "adaptive", []))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # busy machines take minutes to start the actors of one seed
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_loses_nothing_and_repeats_nothing(
    ray_local: str, undisturbed: Content, tmp_path: Path, seed: int
) -> None:
    moments: list[int | str] = ["rollouts", "verdicts", "part", *random.Random(seed).sample(range(1, 80), 3)]
    kills = random.Random(seed).sample(moments, 3)
    killed = credit(tmp_path / "killed", ray_local, 1, "adaptive", kills)
    assert content(killed) == undisturbed
    assert (tmp_path / "killed" / LIVES).stat().st_size == 4
    ids = [rollout.id for rollout in undisturbed[1]]
    assert len(ids) == len(set(ids))
