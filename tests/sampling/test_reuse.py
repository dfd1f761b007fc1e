"""More samples, and more tokens for the traces that were cut: what is there is not drawn again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.graph import build
from app.plan import keys_of
from app.policy import Policy
from app.recipe import load
from app.records import Trace
from app.sampling import stage
from app.sampling.reuse import Earlier, continue_cut, finished_siblings, reusable, shorter_cuts
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import SamplingSettings, Stopping
from app.sampling.stage import take_over
from app.stage import StageContext
from app.store import Output
from tests.sampling.test_stage import context
from tests.sampling.workers import ScriptedWorker


def stage_of(root: Path, tokens: int, **sampling: Any) -> StageContext:
    """The stage with its settings, as the graph of stages gives them."""
    asked = context(root, max_tokens=tokens, **sampling)
    assert asked.recipe.sampling
    settings = asked.recipe.sampling.model_dump(mode="json") | {"seed": asked.recipe.seed}
    stage = replace(asked.stage, settings=settings)
    key = stage.key({name: output.key for name, output in asked.inputs.items()})
    return replace(asked, stage=stage, output=Output(str(root), "sampling", key))


def sample(asked: StageContext, reuse: bool = True) -> tuple[list[Trace], ScriptedEngine]:
    """All shards, and the manifest of a finished stage."""
    earlier = take_over(asked) if reuse else None
    worker = ScriptedWorker(
        *stage.work(asked.recipe, Policy("scripted", "pol")), asked.inputs["problems"], asked.output, earlier
    )

    async def run() -> None:
        for index in range(5):
            await worker.process(index)

    asyncio.run(run())
    inputs = {name: output.key for name, output in asked.inputs.items()}
    asked.output.finish(
        {"settings": asked.stage.settings, "inputs": inputs, "revision": 1, "finished": str(asked.output.key)}
    )
    assert isinstance(worker.engine, ScriptedEngine)
    return Trace.from_table(asked.output.read()), worker.engine


def taken(asked: StageContext) -> Earlier | None:
    assert asked.recipe.sampling
    return reusable(finished_siblings(asked), asked.recipe.sampling)


def test_more_samples_keep_the_first_ones(tmp_path: Path) -> None:
    few, _ = sample(stage_of(tmp_path / "run", 9, samples=4))
    asked = stage_of(tmp_path / "run", 9, samples=8)
    many, engine = sample(asked)
    assert [t for t in many if t.sample < 4] == few
    assert sorted(r.id for r in engine.requests) == sorted(t.id for t in many if t.sample >= 4)
    assert asked.output.counts()["from_earlier_run"] == len(few)
    assert many == sample(stage_of(tmp_path / "alone", 9, samples=8))[0]
    fewer, engine = sample(stage_of(tmp_path / "run", 9, samples=2))
    assert fewer == [t for t in many if t.sample < 2] and engine.requests == []


def test_only_cut_traces_are_asked_for_again(tmp_path: Path) -> None:
    short, _ = sample(stage_of(tmp_path, 6))
    asked = stage_of(tmp_path, 9, continued_at=(6,))
    long, engine = sample(asked)
    cut = [t for t in short if t.finish_reason == "length"]
    assert 0 < len(cut) < len(short)
    assert sorted(r.id for r in engine.requests) == sorted(t.id for t in cut)
    assert [t.id for t in long] == [t.id for t in short]
    for before, after in zip(short, long, strict=True):
        if before.finish_reason == "stop":
            assert after == before
        else:
            assert after.token_ids[:6] == before.token_ids
            assert 6 < len(after.token_ids) <= 9
            assert after.text == " ".join(map(str, after.token_ids))
    assert asked.output.counts()["from_earlier_run"] == len(short)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([{"max_tokens": 6}], {"max_tokens": 9}),
        ([{"max_tokens": 6}], {"max_tokens": 9, "continued_at": [6]}),
        ([{"max_tokens": 4}, {"max_tokens": 6, "continued_at": [4]}], {"max_tokens": 9, "continued_at": [4, 6]}),
        ([{"max_tokens": 6, "samples": 2}], {"max_tokens": 9, "continued_at": [6]}),
    ],
)
def test_equal_keys_give_equal_traces_whatever_was_there_before(
    tmp_path: Path, sizes: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    """The key is the recipe's own: that it continues others' traces is a setting."""

    def size(folder: Path, parts: dict[str, Any]) -> tuple[str, list[Trace]]:
        asked = stage_of(folder, parts["max_tokens"], **{k: v for k, v in parts.items() if k != "max_tokens"})
        return asked.output.key, sample(asked)[0]

    for parts in sizes:
        size(tmp_path / "grown", parts)
    assert size(tmp_path / "grown", wanted) == size(tmp_path / "alone", wanted)


def test_what_continues_is_another_stage_than_what_does_not() -> None:
    def key(*sets: str) -> str:
        return keys_of(build(load("jobs/recipes/demo.yaml", ["sampling.max_tokens=512", *sets])))["sampling/sft"]

    assert key() != key("sampling.continued_at=[256]")


def test_the_stage_says_how_shorter_traces_could_be_used(tmp_path: Path) -> None:
    sample(stage_of(tmp_path, 6))
    asked = stage_of(tmp_path, 9)
    sample(asked)
    assert "sampling.continued_at: [6] would go on" in asked.progress.out.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("lengths", [[9], [6, 6], [0], [7, 3]])
def test_lengths_that_do_not_grow_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths that grow and are below max_tokens"):
        SamplingSettings(max_tokens=9, continued_at=tuple(lengths))
    with pytest.raises(ValueError, match="not with stopping"):
        SamplingSettings(max_tokens=9, continued_at=(3,), stopping=Stopping())


def test_requests_go_on_where_the_trace_was_cut() -> None:
    engine = ScriptedEngine()
    trace = Trace("t", "p", 0, 5, "pol", [1, 2], [3, 4], "3 4", "length")
    found, done = asyncio.run(continue_cut(engine, trace, SamplingSettings(temperature=0.3), 10, 0, str))
    [request] = engine.requests
    assert (request.id, request.prompt_token_ids, request.max_tokens) == ("t", (1, 2, 3, 4), 8)
    assert request.seed != trace.seed and request.temperature == 0.3
    assert found.token_ids == [3, 4, *done.token_ids]


def test_a_trace_cut_by_the_context_stays_as_it_is() -> None:
    engine = ScriptedEngine(context_length=4)
    trace = Trace("t", "p", 0, 5, "pol", [1, 2], [3, 4], "3 4", "length")
    found, done = asyncio.run(continue_cut(engine, trace, SamplingSettings(), 10, 0, str))
    assert found == trace and engine.requests == [] and done.token_ids == ()


def test_the_run_that_saves_most_is_taken(tmp_path: Path) -> None:
    sample(stage_of(tmp_path, 3), reuse=False)
    sample(stage_of(tmp_path, 7, continued_at=(3,)), reuse=False)
    sample(stage_of(tmp_path, 7, samples=3, continued_at=(3,)), reuse=False)
    sample(stage_of(tmp_path, 7, temperature=0.5), reuse=False)
    found = taken(stage_of(tmp_path, 10, continued_at=(3, 7)))
    assert found is not None and (found.samples, found.cuts) == (6, (3, 7))
    assert taken(stage_of(tmp_path, 10)) is None
    assert taken(stage_of(tmp_path, 10, stopping={"correct": 1})) is None
    assert shorter_cuts(finished_siblings(stage_of(tmp_path, 10)), SamplingSettings(max_tokens=10)) == [3, 7]


def test_an_unfinished_run_is_not_built_upon(tmp_path: Path) -> None:
    first = stage_of(tmp_path, 5)
    sample(first)
    assert taken(stage_of(tmp_path, 5, samples=9)) is not None
    (tmp_path / "sampling" / first.output.key / "manifest.json").unlink()
    assert taken(stage_of(tmp_path, 5, samples=9)) is None
