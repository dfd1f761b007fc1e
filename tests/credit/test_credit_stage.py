"""The stage's worker over real files and a scripted student; the whole stage with Ray and vLLM."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from app.credit.stage import CreditWorker
from app.recipe import Recipe
from app.records import Problem, StepValue, Trace, Verdict
from app.shard_stats import Receipt
from app.store import Output
from benchmarks.world_oracle import first_wrong_line
from tests.credit import student as world


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    return world.problems()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, made: list[Problem], tmp_path: Path):
    """Builds a CreditWorker whose engine is the student, over samples of the same student."""
    student = world.Student(made, world.renderer())
    monkeypatch.setattr("app.sampling.stage.create", lambda *args, **kwargs: student)
    inputs = asyncio.run(world.sampled(tmp_path, student, made, world.recipe()))

    def build(name: str, recipe: Recipe | None = None) -> tuple[CreditWorker, Output]:
        output = Output(str(tmp_path), "credit", name)
        return world.credit_worker(recipe or world.recipe(), inputs, output), output

    return build


def rows(output: Output) -> tuple[list[StepValue], list[Trace], list[Verdict]]:
    verdicts = Verdict.from_table(output.read(kind="verdicts"))
    return (
        StepValue.from_table(output.read()),
        Trace.from_table(output.read(kind="rollouts")),
        [Verdict(v.trace_id, v.outcome, v.extracted, v.reason, v.tier, 0.0) for v in verdicts],
    )


def process(worker: CreditWorker, *shards: int) -> list[Receipt]:
    async def all_at_once() -> list[Receipt]:
        return list(await asyncio.gather(*(worker.process(shard) for shard in shards)))

    return asyncio.run(all_at_once())


def test_any_number_of_actors_in_any_order_write_the_same(worker) -> None:
    one, alone = worker("one")
    process(one, 0, 1, 2)
    (two, shared), (other, _) = worker("two"), worker("two")
    process(two, 2)
    process(other, 1)
    process(two, 0)
    process(other, 1)  # repeated work is harmless
    assert rows(alone) == rows(shared)
    assert len(rows(alone)[0]) > 50


def test_a_killed_run_goes_on_where_it_was(worker) -> None:
    whole, expected = worker("whole")
    process(whole, 0, 1, 2)
    killed, output = worker("killed")
    process(killed, 0)
    output.write_shard(1, Trace.table([]), kind="rollouts")  # died before the part of shard 1 was there
    assert output.done_shards() == [0]
    process(killed, *(i for i in range(3) if i not in output.done_shards()))
    assert rows(output) == rows(expected)


def test_counts_tell_what_was_done(worker) -> None:
    made, output = worker("counts")
    process(made, 0, 1, 2)
    values, rollouts, verdicts = rows(output)
    counts = output.counts()
    assert counts["rollouts"] == len(rollouts) == len(verdicts) == len({r.id for r in rollouts})
    assert counts["tokens"] == sum(len(r.token_ids) for r in rollouts)
    assert counts["pits"] == sum(v.first_pit for v in values)
    assert counts["traces"] == len({v.trace_id for v in values})
    assert counts["pits_at_wrong_sum"] <= counts["wrong_sum_traces"] <= counts["traces"]
    known = [counts.get(k, 0) for k in ("problems", "problems_without_wrong", "problems_all_wrong")]
    assert sum(known) == 12


@pytest.mark.parametrize("search", ["exhaustive", "sequential", "binary"])
def test_pits_are_the_first_wrong_lines(worker, made: list[Problem], search: str) -> None:
    made_by, output = worker(search, world.recipe(credit={"search": search, "rollouts": 8}))
    process(made_by, 0, 1, 2)
    by_id = {p.id: p for p in made}
    traces = {t.id: t for t in Trace.from_table(made_by.given.sampling.read())}
    found = [v for v in rows(output)[0] if v.first_pit]
    exact = [v.step - 1 == first_wrong_line(by_id[v.problem_id], traces[v.trace_id].text) for v in found]
    assert len(found) >= 20 and sum(exact) >= 0.8 * len(found)
    for value in found:
        trace = traces[value.trace_id]
        assert world.renderer().decode(trace.token_ids[value.start : value.end]) == value.text


def test_other_temperatures_get_their_own_start(worker) -> None:
    made, output = worker("hot", world.recipe(credit={"temperature": 0.7}))
    process(made, 0)
    starts = [v for v in rows(output)[0] if v.step == 0]
    assert starts and all(v.judged == 4 for v in starts)
    assert any(r.prefix_tokens == 0 for r in rows(output)[1])


def test_order_of_rows_follows_ids_not_time(worker) -> None:
    made, output = worker("order")
    engine, rng = made.engine, random.Random(0)
    plain = engine.generate

    async def late(request):
        await asyncio.sleep(rng.random() / 100)
        return await plain(request)

    engine.generate = late
    process(made, 0)
    engine.generate = plain
    again, expected = worker("in-order")
    process(again, 0)
    assert rows(output) == rows(expected)
