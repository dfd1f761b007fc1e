"""The stage on an endpoint: the base policy only, and against vLLM's real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.errors import UserError
from app.policy import WORLD_MODEL, Policy, base_policy
from app.problems.world import make_problems
from app.records import Problem, Trace
from app.rendering import Renderer
from app.sampling import stage
from app.sampling.engine import Request
from app.sampling.openai import Budget, OpenAIEngine
from app.sampling.vllm import VllmEngine
from tests.sampling.test_stage import context
from tests.smollm import served


def test_only_the_base_policy_is_asked_of_the_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that the run trained is not there: it gets an engine of its own."""
    started = []
    monkeypatch.setattr(stage, "create", lambda policy, *_: started.append(policy.path))
    asked = context(tmp_path, {"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "world"}})
    base = base_policy(asked.recipe.model)
    assert isinstance(stage.EngineWorker(stage.engine_job(asked.recipe, base)).engine, OpenAIEngine)
    assert started == []
    stage.EngineWorker(stage.engine_job(asked.recipe, Policy(str(WORLD_MODEL), "trained")))
    assert started == [str(WORLD_MODEL)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_stage_through_vllms_server(tmp_path: Path) -> None:
    """Real tokens cross: greedy ones are those of the engine's own, traces are whole, a budget ends the work."""
    with served(WORLD_MODEL, tmp_path / "serve.log", max_model_len=256) as url:
        endpoint = {"base_url": url, "model": "writer", "concurrency": 32}
        asked = context(tmp_path, {"endpoint": endpoint, "max_model_len": 256}, samples=4, max_tokens=200)
        problems = make_problems(3, 8, "train")
        asked.inputs["problems"].write_shard(0, Problem.table(problems))
        policy = base_policy(asked.recipe.model)

        async def sample() -> None:
            worker = stage.SamplingWorker(*stage.work(asked.recipe, policy), asked.inputs["problems"], asked.output)
            await asyncio.gather(worker.process(0), worker.process(1))
            await worker.engine.close()

        asyncio.run(sample())
        traces = Trace.from_table(asked.output.read())
        assert len(traces) == 8 * 4 == len({t.id for t in traces})
        renderer = Renderer(str(WORLD_MODEL), asked.recipe.rendering)
        for trace in traces:
            assert trace.text == renderer.decode(trace.token_ids)
            assert (trace.finish_reason == "stop") == (trace.token_ids[-1] == renderer.end_id)
        prompt = tuple(traces[0].prompt_token_ids)
        greedy = Request("greedy", prompt, 0, 200, 0.0)
        through = asyncio.run(OpenAIEngine(url, "writer").generate(greedy))
        poor = OpenAIEngine(url, "writer", budget=Budget(tokens=len(prompt) + 1))
        with pytest.raises(UserError, match="budget of .* tokens is spent"):
            asyncio.run(poor.generate_n([greedy] * 40))
        wrong = OpenAIEngine(url, "nobody")
        with pytest.raises(UserError, match="404: no model 'nobody'"):
            asyncio.run(wrong.generate(greedy))

    async def own() -> tuple[int, ...]:
        engine = VllmEngine(str(WORLD_MODEL), asked.recipe.placement.sampling)
        done = await engine.generate(greedy)
        await engine.close()
        return done.token_ids

    assert asyncio.run(own()) == through.token_ids
