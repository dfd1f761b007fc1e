"""The stage with a scripted engine, in this process and on a real local Ray."""

from __future__ import annotations

import asyncio
import io
import itertools
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation import stage
from app.policy import Policy
from app.progress import Progress
from app.recipe import Recipe
from app.records import Problem, Trace, Verdict
from app.report.results import answers_of
from app.sampling.engine import Request
from app.stage import Stage, StageContext
from app.store import Output
from tests.evaluation.workers import CONTEXT, ScriptedWorker

COUNT = itertools.count()
LONG = Problem("p-long", "a" * CONTEXT, "1", "test", "made-up")


def problems() -> list[Problem]:
    test = [Problem(f"p-{n:02d}", chr(ord("a") + n) + "xyz", "1", "test", "made-up") for n in range(14)]
    other = [Problem("p-train", "abc", "1", "train", "made-up"), Problem("p-val", "abd", "1", "validation", "made-up")]
    return [*reversed(test), *other]


def context(
    root: Path, rows: list[Problem] | None = None, place: dict[str, Any] | None = None, **evaluation: Any
) -> StageContext:
    source = Output(str(root), "problems", f"k{next(COUNT)}")
    source.write_shard(0, Problem.table(rows or problems()))
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "problems": {"train": 1, "validation": 1, "test": 1},
            "evaluation": {"samples": 3, "problems_per_shard": 4, "max_tokens": 8, **evaluation},
            "placement": {"sampling": {"cpus": 0.5, **(place or {})}},
        }
    )
    return StageContext(
        Stage("evaluation/base", stage.run, {}, {"problems": "problems"}, options={"policy": recipe.model}),
        recipe,
        {"problems": source},
        Output(str(root), "evaluation/base", f"k{next(COUNT)}"),
        Progress("evaluation/base", out=io.StringIO()),
    )


def worker(asked: StageContext) -> ScriptedWorker:
    return ScriptedWorker(*stage.work(asked.recipe, Policy("scripted", "pol")), asked.inputs["problems"], asked.output)


def process(asked: StageContext, order: list[int]) -> tuple[list[Trace], list[Verdict], list[Request]]:
    """The shards by one worker in this process, in some order: traces, verdicts, and what the engine was asked."""
    one = worker(asked)

    async def run() -> None:
        for index in order:
            await one.process(index)

    asyncio.run(run())
    traces = Trace.from_table(asked.output.read())
    return traces, Verdict.from_table(asked.output.read(kind="verdicts")), one.engine.requests  # type: ignore[attr-defined]


def test_every_problem_of_the_split_is_answered_in_order(tmp_path: Path) -> None:
    traces, verdicts, _ = process(context(tmp_path), [0, 1, 2, 3])
    assert [(t.problem_id, t.sample) for t in traces] == [(f"p-{n:02d}", s) for n in range(14) for s in range(4)]
    assert [v.trace_id for v in verdicts] == [t.id for t in traces]
    assert len({t.id for t in traces}) == len(traces) == 56


def test_sample_zero_is_greedy_and_the_others_are_drawn(tmp_path: Path) -> None:
    traces, _, requests = process(context(tmp_path, temperature=0.9), [0, 1, 2, 3])
    temperature = {request.id: request.temperature for request in requests}
    assert {(t.sample > 0, temperature[t.id]) for t in traces} == {(False, 0.0), (True, 0.9)}
    assert {request.max_tokens for request in requests} == {8}
    assert len({request.seed for request in requests}) == len(requests)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_only_the_split_is_asked(tmp_path: Path, split: str) -> None:
    asked = context(tmp_path, split=split)
    traces, _, _ = process(asked, [0])
    assert all(t.problem_id == "p-val" for t in traces) == (split == "validation")
    assert "p-train" not in {t.problem_id for t in traces}


def test_answers_are_judged_against_the_reference(tmp_path: Path) -> None:
    asked = context(tmp_path)
    traces, verdicts, _ = process(asked, [0, 1, 2, 3])
    answers = answers_of(asked.output)
    assert answers.greedy == {f"p-{n:02d}": "correct" if n % 2 == 0 else "incorrect" for n in range(14)}
    expected = {"#### 1": "correct", "#### 2": "incorrect", "#### 3": "incorrect", "who knows": "unparsed"}
    assert [v.outcome for v in verdicts] == [expected[t.text] for t in traces]
    assert {"correct", "incorrect", "unparsed"} == {o for drawn in answers.drawn.values() for o, _ in drawn}


def test_counts(tmp_path: Path) -> None:
    asked = context(tmp_path)
    process(asked, [0, 1, 2, 3])
    counts = asked.output.counts()
    assert counts["problems"] == 14 and counts["traces"] == 56 and counts["tokens"] == 56 * 4
    assert counts["correct_greedy"] == counts["incorrect_greedy"] == 7
    assert counts["skipped_prompts"] == counts["truncated"] == 0


def test_no_samples_asks_once(tmp_path: Path) -> None:
    traces, _, requests = process(context(tmp_path, samples=0), [0, 1, 2, 3])
    assert len(traces) == len(requests) == 14 and {r.temperature for r in requests} == {0.0}


def test_the_order_of_shards_changes_nothing(tmp_path: Path) -> None:
    one, two = (process(context(tmp_path), order) for order in ([0, 1, 2, 3], [3, 1, 0, 2]))
    assert one[0] == two[0]
    assert [(v.trace_id, v.outcome) for v in one[1]] == [(v.trace_id, v.outcome) for v in two[1]]


def test_verdicts_are_written_before_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two must leave the shard to be done again."""
    asked = context(tmp_path)
    written = []
    plain = Output.write_shard

    def note(self: Output, index: int, table: Any, counts: Any = None, kind: str = "part") -> None:
        written.append((index, kind))
        plain(self, index, table, counts, kind)

    monkeypatch.setattr(Output, "write_shard", note)
    process(asked, [0, 1])
    assert written == [(0, "verdicts"), (0, "part"), (1, "verdicts"), (1, "part")]


def test_a_prompt_that_does_not_fit_is_skipped_and_counted(ray_local: str, tmp_path: Path) -> None:
    asked = context(tmp_path, [*problems(), LONG])
    stage.run(asked, ScriptedWorker)
    counts = asked.output.counts()
    assert counts["problems"] == 15 and counts["skipped_prompts"] == 1 and counts["traces"] == 56
    said = asked.progress.out.getvalue()  # type: ignore[attr-defined]
    assert "1 of 15 problems skipped" in said and "7 of 14 problems right, greedily" in said


def test_cut_answers_are_told(ray_local: str, tmp_path: Path) -> None:
    asked = context(tmp_path, max_tokens=2)
    stage.run(asked, ScriptedWorker)
    assert "100.0% of answers cut at evaluation.max_tokens" in asked.progress.out.getvalue()  # type: ignore[attr-defined]


def test_nothing_fits(ray_local: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 1 problems fits .*max_model_len"):
        stage.run(context(tmp_path, [LONG]), ScriptedWorker)


def test_no_problem_of_the_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test problems"):
        stage.run(context(tmp_path, [p for p in problems() if p.split == "train"]), ScriptedWorker)


def test_one_actor_or_two_and_a_resumed_run_give_the_same(ray_local: str, tmp_path: Path) -> None:
    one = context(tmp_path)
    stage.run(one, ScriptedWorker)
    two = context(tmp_path, place={"actors": 2, "concurrent_shards": 1})
    stage.run(two, ScriptedWorker)
    resumed = context(tmp_path)
    for index in (0, 2):
        resumed.output.write_shard(index, one.output.read_shard(index, kind="verdicts"), kind="verdicts")
        resumed.output.write_shard(index, one.output.read_shard(index), one.output.shard_counts(index))
    stage.run(resumed, ScriptedWorker)
    assert resumed.progress.reused == 2
    tables = [Trace.from_table(c.output.read()) for c in (one, two, resumed)]
    assert tables[0] == tables[1] == tables[2]
    assert {c.output.counts()["correct_greedy"] for c in (one, two, resumed)} == {7.0}
