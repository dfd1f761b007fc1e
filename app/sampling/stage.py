"""Stage sampling: traces for every training problem, from engine actors."""

from __future__ import annotations

import asyncio
from itertools import chain

from app.policy import Policy, base_policy, trained_policy
from app.problems.select import problems_of
from app.recipe import Recipe
from app.records import Problem, Trace, chunked
from app.rendering import Renderer
from app.sampling.engine import Completion, PromptTooLong
from app.sampling.programs import sample_n
from app.sampling.settings import EnginePlacement
from app.sampling.vllm import VllmEngine
from app.shardmap import Pool, map_shards
from app.stage import StageContext
from app.store import Output


class EngineWorker:
    """A shard worker that holds a Renderer and an engine for one policy. Subclasses add `process(index)`."""

    def __init__(self, recipe: Recipe, policy: Policy) -> None:
        self.recipe, self.policy = recipe, policy
        model = recipe.model
        revision = model.revision if policy.path == model.path else None  # a folder has no revisions
        self.renderer = Renderer(policy.path, recipe.rendering, revision, model.trust_remote_code)
        self.engine = VllmEngine(policy.path, recipe.placement.sampling, revision, model.trust_remote_code)


class SamplingWorker(EngineWorker):
    """Shard i = the i-th slice of the training problems; one program a problem, all at once."""

    def __init__(self, recipe: Recipe, policy: Policy, problems: Output, output: Output) -> None:
        super().__init__(recipe, policy)
        assert recipe.sampling
        self.settings, self.output = recipe.sampling, output
        self.shards = chunked(problems_of(problems, "train"), self.settings.problems_per_shard)

    async def process(self, index: int) -> dict[str, float]:
        """Sample the shard's problems, write their traces in the order of the problems."""
        results = await asyncio.gather(*(self._sample(problem) for problem in self.shards[index]))
        pairs = list(chain.from_iterable(found for found in results if found is not None))
        counts = engine_counts([trace for trace, _ in pairs], [done for _, done in pairs])
        counts["skipped_prompts"] = float(sum(found is None for found in results))
        self.output.write_shard(index, Trace.table(trace for trace, _ in pairs), counts)
        return counts

    async def _sample(self, problem: Problem) -> list[tuple[Trace, Completion]] | None:
        """A problem's traces; None where its prompt does not fit the context."""
        prompt = self.renderer.prompt_ids(problem.statement)
        try:
            return await sample_n(
                self.engine, problem, prompt, self.settings, self.recipe.seed, self.policy.fingerprint
            )
        except PromptTooLong:
            return None


def engine_counts(traces: list[Trace], completions: list[Completion]) -> dict[str, float]:
    """What traces cost, for a shard's counts: tokens read and written, and seconds of engine time."""
    return {
        "traces": float(len(traces)),
        "prompt_tokens": float(sum(len(t.prompt_token_ids) for t in traces)),
        "tokens": float(sum(len(t.token_ids) for t in traces)),
        "truncated": float(sum(t.finish_reason == "length" for t in traces)),
        "engine_seconds": sum(c.seconds for c in completions),
    }


def pool(placement: EnginePlacement) -> Pool:
    """Engine actors for `map_shards`."""
    return Pool(placement.actors, placement.cpus, placement.gpus, placement.concurrent_shards)


def policy_of(context: StageContext) -> Policy:
    """The weights that the stage's `policy` option names: "base" or a training stage among the inputs."""
    name = context.stage.options["policy"]
    return base_policy(context.recipe.model) if name == "base" else trained_policy(context.inputs[name])


def run(context: StageContext) -> None:
    """Sample every shard of training problems that has no traces yet."""
    assert context.recipe.sampling
    problems = context.inputs[context.stage.options["problems"]]
    shards = len(chunked(problems_of(problems, "train"), context.recipe.sampling.problems_per_shard))
    pending = context.pending(shards)
    context.progress.begin(shards, shards - len(pending))
    map_shards(
        SamplingWorker,
        (context.recipe, policy_of(context), problems, context.output),
        pending,
        pool(context.recipe.placement.sampling),
        context.progress,
    )
    report(context)


def report(context: StageContext) -> None:
    """Say what was skipped and what was cut: neither may pass unseen."""
    counts = context.output.counts()
    if skipped := counts.get("skipped_prompts"):
        context.progress.say(f"{skipped:,.0f} problems skipped: their prompts do not fit the context")
    if truncated := counts.get("truncated"):
        share = truncated / counts["traces"]
        context.progress.say(f"{truncated:,.0f} traces ({share:.1%}) cut at sampling.max_tokens or the context's end")
