"""The stage with a scripted engine on a real local Ray: the same traces however it is run."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import DefaultAsyncHttpxClient

from app.policy import Policy
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem, Trace, trace_id
from app.sampling import stage
from app.sampling.openai import OpenAIEngine
from app.stage import Stage, StageContext
from app.store import Output
from tests.sampling.workers import ScriptedWorker

SKIPPED = Problem("p-long", "a" * 40, "1", "train", "test")
COUNT = itertools.count()


def problems() -> list[Problem]:
    train = [Problem(f"p-{n:02d}", chr(ord("b") + n) + "xyz", "1", "train", "test") for n in range(18)]
    other = [Problem("p-test", "abc", "1", "test", "test"), Problem("p-val", "abd", "1", "validation", "test")]
    return [*reversed(train), SKIPPED, *other]


def context(root: Path | str, place: dict[str, Any] | None = None, **sampling: Any) -> StageContext:
    source = Output(str(root), "problems", "k")
    source.write_shard(0, Problem.table(problems()))
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "problems": {"train": 1, "validation": 1, "test": 1},
            "sampling": {"samples": 6, "problems_per_shard": 4, **sampling},
            "placement": {"sampling": {"cpus": 0.5, **(place or {})}},
        }
    )
    options = {"policy": recipe.model}
    return StageContext(
        Stage("sampling/base", stage.run, {}, {"problems": "problems"}, options=options),
        recipe,
        {"problems": source},
        Output(str(root), "sampling", f"k{next(COUNT)}"),
        Progress("sampling", out=io.StringIO()),
    )


def worker(asked: StageContext) -> ScriptedWorker:
    return ScriptedWorker(*stage.work(asked.recipe, Policy("scripted", "pol")), asked.inputs["problems"], asked.output)


def process(asked: StageContext, order: list[int]) -> list[Trace]:
    """The stage's shards by one worker in this process, in some order; then all traces in the order of the shards."""
    one = worker(asked)

    async def run() -> None:
        for index in order:
            await one.process(index)

    asyncio.run(run())
    return Trace.from_table(asked.output.read())


def test_every_training_problem_is_sampled_in_order_and_no_other(tmp_path: Path) -> None:
    asked = context(tmp_path)
    traces = process(asked, [0, 1, 2, 3, 4])
    expected = [(f"p-{n:02d}", sample) for n in range(18) for sample in range(6)]
    assert [(t.problem_id, t.sample) for t in traces] == expected
    assert [t.id for t in traces] == [trace_id(p, s, "pol") for p, s in expected]
    counts = asked.output.counts()
    assert (counts["traces"], counts["skipped_prompts"], counts["truncated"]) == (18 * 6, 1, 0)
    assert counts["tokens"] == sum(len(t.token_ids) for t in traces)
    assert counts["prompt_tokens"] == 18 * 6 * 4
    assert counts["engine_seconds"] > 0


@pytest.mark.parametrize("stopping", [None, {"correct": 1}])
def test_an_unknown_context_costs_a_long_prompt_alone_and_no_shard(
    tmp_path: Path, stopping: dict[str, int] | None
) -> None:
    """The endpoint of 39 tokens refuses more: traces of others are cut to it, the prompt without room is dropped."""

    def serve(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        if len(body["prompt"]) + body["max_tokens"] > 39:
            return httpx2.Response(400, text="This model's maximum context length is 39 tokens.")
        choice = {"text": "#### 1", "token_ids": [body["seed"] % 97] * body["max_tokens"], "finish_reason": "stop"}
        return httpx2.Response(200, json={"choices": [choice]})

    asked = context(tmp_path, samples=2, max_tokens=100, stopping=stopping)
    one = worker(asked)
    client = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(serve))
    one.engine = OpenAIEngine("http://server/v1", "m", http_client=client)

    async def run() -> None:
        for index in range(5):
            await one.process(index)

    asyncio.run(run())
    traces = Trace.from_table(asked.output.read())
    assert len({t.problem_id for t in traces}) == 18
    assert {len(t.token_ids) for t in traces} == {35}
    assert asked.output.counts()["skipped_prompts"] == 1


def test_engine_seconds_count_no_second_twice(tmp_path: Path) -> None:
    asked = context(tmp_path)
    one = worker(asked)

    async def together() -> None:
        await asyncio.gather(*(one.process(index) for index in range(5)))

    asyncio.run(together())
    assert asked.output.counts()["engine_seconds"] == pytest.approx(one.engine.meter.busy)


@pytest.mark.parametrize("stopping", [None, {"correct": 2, "incorrect": 1, "most": 9}])
def test_order_and_eagerness_change_nothing(tmp_path: Path, stopping: dict[str, int] | None) -> None:
    one = process(context(tmp_path, stopping=stopping), [0, 1, 2, 3, 4])
    other = process(context(tmp_path, {"ahead": 1.0}, stopping=stopping), [3, 0, 4, 1, 2])
    assert one == other


def test_quotas_stop_easy_problems_early_and_are_counted(tmp_path: Path) -> None:
    asked = context(tmp_path, stopping={"correct": 2, "incorrect": 0})
    traces = process(asked, [0, 1, 2, 3, 4])
    drawn = {p: sum(t.problem_id == p for t in traces) for p in ("p-00", "p-17")}
    assert drawn["p-17"] < drawn["p-00"]
    counts = asked.output.counts()
    assert counts["correct"] == sum(t.text == "#### 1" for t in traces)
    right = {t.problem_id: 0 for t in traces}
    for trace in traces:
        right[trace.problem_id] += trace.text == "#### 1"
    assert counts["quotas_unmet"] == sum(found < 2 for found in right.values())


def test_the_stage_reports_what_it_skipped(ray_local: str, tmp_path: Path) -> None:
    asked = context(tmp_path, max_tokens=5)
    stage.run(asked, ScriptedWorker)
    said = asked.progress.out.getvalue()  # type: ignore[attr-defined]
    assert "1 problems skipped: their prompts do not fit the context" in said
    assert "cut at sampling.max_tokens or the context's end" in said


def test_one_actor_or_two_and_a_resumed_run_give_the_same_traces(ray_local: str, tmp_path: Path) -> None:
    one = context(tmp_path)
    stage.run(one, ScriptedWorker)
    two = context(tmp_path, {"actors": 2, "concurrent_shards": 1})
    stage.run(two, ScriptedWorker)
    resumed = context(tmp_path)
    for index in (1, 3):
        table = one.output.read_shard(index)
        resumed.output.write_shard(index, table, one.output.shard_counts(index))
    stage.run(resumed, ScriptedWorker)
    assert resumed.progress.reused == 2
    assert one.output.done_shards() == [0, 1, 2, 3, 4]
    tables = [Trace.from_table(c.output.read()) for c in (one, two, resumed)]
    assert tables[0] == tables[1] == tables[2]
    assert len({t.id for t in tables[0]}) == 18 * 6
