"""More tokens for the traces that were cut, and for no other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.policy import Policy
from app.records import Trace
from app.sampling.longer import continue_cut, shorter_run
from app.sampling.scripted import ScriptedEngine
from app.sampling.settings import SamplingSettings
from app.stage import StageContext
from app.store import Output
from tests.sampling.test_stage import context
from tests.sampling.workers import ScriptedWorker


def stage_of(root: Path, tokens: int, **sampling: Any) -> StageContext:
    """The stage with its settings, as the graph of stages gives them."""
    asked = context(root, max_tokens=tokens, **sampling)
    assert asked.recipe.sampling
    settings = asked.recipe.sampling.model_dump(mode="json") | {"seed": asked.recipe.seed}
    key = f"k-{tokens}-{len(sampling)}"
    return replace(asked, stage=replace(asked.stage, settings=settings), output=Output(str(root), "sampling", key))


def sample(asked: StageContext, shorter: Output | None = None) -> tuple[list[Trace], ScriptedEngine]:
    """All shards, and the manifest of a finished stage."""
    worker = ScriptedWorker(asked.recipe, Policy("scripted", "pol"), asked.inputs["problems"], asked.output, shorter)

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


def test_only_cut_traces_are_asked_for_again(tmp_path: Path) -> None:
    short, _ = sample(stage_of(tmp_path, 6))
    asked = stage_of(tmp_path, 9)
    shorter = shorter_run(asked)
    assert shorter is not None and shorter.key == "k-6-0"
    long, engine = sample(asked, shorter)
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
    assert asked.output.counts()["from_shorter_run"] == len(short)


def test_requests_go_on_where_the_trace_was_cut() -> None:
    engine = ScriptedEngine()
    trace = Trace("t", "p", 0, 5, "pol", [1, 2], [3, 4], "3 4", "length")
    settings = SamplingSettings(max_tokens=10, temperature=0.3)
    found, done = asyncio.run(continue_cut(engine, trace, settings, 0, str))
    [request] = engine.requests
    assert (request.id, request.prompt_token_ids, request.max_tokens) == ("t", (1, 2, 3, 4), 8)
    assert request.seed != trace.seed and request.temperature == 0.3
    assert found.token_ids == [3, 4, *done.token_ids]


def test_a_trace_cut_by_the_context_stays_as_it_is() -> None:
    engine = ScriptedEngine(context_length=4)
    trace = Trace("t", "p", 0, 5, "pol", [1, 2], [3, 4], "3 4", "length")
    found, done = asyncio.run(continue_cut(engine, trace, SamplingSettings(max_tokens=10), 0, str))
    assert found == trace and engine.requests == [] and done.token_ids == ()


def test_the_longest_shorter_run_with_the_same_settings_is_taken(tmp_path: Path) -> None:
    for tokens in (3, 7, 20):
        sample(stage_of(tmp_path, tokens))
    sample(stage_of(tmp_path, 8, temperature=0.5))
    found = shorter_run(stage_of(tmp_path, 10))
    assert found is not None and found.key == "k-7-0"
    assert shorter_run(stage_of(tmp_path, 3)) is None
    assert shorter_run(stage_of(tmp_path, 10, until={"correct": 1})) is None


def test_an_unfinished_run_is_not_built_upon(tmp_path: Path) -> None:
    sample(stage_of(tmp_path, 5))
    (tmp_path / "sampling" / "k-5-0" / "manifest.json").unlink()
    assert shorter_run(stage_of(tmp_path, 9)) is None
