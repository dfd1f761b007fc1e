"""Stage sampling: traces for every training problem, from engine actors."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from app.policy import Policy, base_policy, trained_policy
from app.problems.select import Problems
from app.recipe import EngineRole, Recipe
from app.records import Problem, Trace, Verdict
from app.rendering import Renderer
from app.sampling import utilisation
from app.sampling.backends import create
from app.sampling.engine import Completion, Engine, all_or_none, fitting
from app.sampling.openai import endpoint_engine
from app.sampling.requests import sample_n
from app.sampling.reuse import Earlier, continue_through, finished_siblings, reusable, shorter_cuts
from app.sampling.settings import EnginePlacement, SamplingSettings
from app.sampling.stopping import Judge, Search, sample_to_quotas
from app.settings import ModelSettings, RenderingSettings
from app.shard_stats import Receipt
from app.shardmap import Pool, run_shards
from app.stage import StageContext
from app.store import Output
from app.verification.gate import check_references
from app.verification.settings import VerificationSettings
from app.verification.verifier import Verifier, verdicts, verifier_of

Prompt = tuple[Problem, list[int]]
Sampled = tuple[list[tuple[Trace, Completion]], dict[str, float]]


@dataclass(frozen=True)
class EngineJob:
    """What an actor that asks one policy has to know of a recipe."""

    policy: Policy
    place: EnginePlacement
    rendering: RenderingSettings
    verification: VerificationSettings
    seed: int
    models: tuple[ModelSettings, ...]  # that the recipe names, the base first


def engine_job(recipe: Recipe, policy: Policy, role: EngineRole = "sampling") -> EngineJob:
    """A recipe's part for the actors of a role."""
    models = recipe.model, *recipe.models.values()
    place = recipe.placement.engines(role)
    return EngineJob(policy, place, recipe.rendering, recipe.verification, recipe.seed, models)


class EngineWorker:
    """A shard worker that holds a Renderer and an engine for one policy. Subclasses add `process(index)`.

    Raises UserError where the policy cannot be served as the placement asks.
    """

    def __init__(self, job: EngineJob) -> None:
        self.job, self.policy = job, job.policy.here()
        model = next((model for model in job.models if model.path == job.policy.path), None)
        self.revision = model.revision if model else None  # a trained policy is a folder, without revisions
        self.trust_remote_code = (model or job.models[0]).trust_remote_code
        self.renderer = self.start_renderer()
        self.engine = self.start_engine()

    def start_renderer(self) -> Renderer:
        """The policy's own tokenizer and template."""
        return Renderer(self.policy.path, self.job.rendering, self.revision, self.trust_remote_code)

    def start_engine(self) -> Engine:
        """The placement's backend, beside this actor; or, for the base policy, the endpoint that is named there."""
        place = self.job.place
        if place.endpoint and self.policy.fingerprint == base_policy(self.job.models[0]).fingerprint:
            return endpoint_engine(place.endpoint, place.max_model_len)
        return create(self.policy, place, self.revision, self.trust_remote_code)


class SamplingWorker(EngineWorker):
    """Shard i = the i-th slice of the training problems; one program a problem, all at once."""

    def __init__(
        self,
        job: EngineJob,
        settings: SamplingSettings,
        problems: Output,
        output: Output,
        earlier: Earlier | None = None,
    ) -> None:
        super().__init__(job)
        self.settings, self.output, self.earlier = settings, output, earlier
        self.problems = Problems(problems, "train")
        self.judge = judge_beside(verifier_of(job.verification))
        self.engine_name = uuid.uuid4().hex  # of this start: actors share no name, and neither do sessions

    async def process(self, index: int) -> Receipt:
        """Sample the shard's problems, write their traces in the order of the problems."""
        problems = self.problems.shard(index, self.settings.problems_per_shard)
        prompts = [(problem, self.renderer.prompt_ids(problem.statement)) for problem in problems]
        pairs, counts = await (self._to_quotas(prompts) if self.settings.stopping else self._plain(index, prompts))
        counts |= engine_counts([trace for trace, _ in pairs], [done for _, done in pairs])
        self.output.write_shard(index, utilisation.record(self.engine.meter, self.engine_name), kind=utilisation.KIND)
        return self.output.write_shard(index, Trace.table(trace for trace, _ in pairs), counts)

    async def _plain(self, index: int, prompts: list[Prompt]) -> Sampled:
        """All samples of the problems; what an earlier run drew of them is taken over."""
        earlier = self.earlier.traces(index) if self.earlier else {}
        pairs, skipped = await fitting(self._samples(problem, ids, earlier) for problem, ids in prompts)
        reused = sum((trace.problem_id, trace.sample) in earlier for trace, _ in pairs)
        counts = {"skipped_prompts": float(skipped)}
        return pairs, counts | ({"from_earlier_run": float(reused)} if reused else {})

    async def _samples(
        self, problem: Problem, ids: list[int], earlier: dict[tuple[str, int], Trace]
    ) -> list[tuple[Trace, Completion]]:
        """All samples of one problem, in order. Raises PromptTooLong."""
        settings, seed, decode = self.settings, self.job.seed, self.renderer.decode
        numbers = range(settings.samples)
        missing = [n for n in numbers if (problem.id, n) not in earlier]
        first = settings.model_copy(update={"max_tokens": settings.cuts[0]})
        new = await sample_n(self.engine, problem, ids, first, seed, self.policy.fingerprint, missing)
        drawn = dict(zip(missing, new, strict=True))
        passed = len(self.earlier.cuts) if self.earlier else 0

        async def one(n: int) -> tuple[Trace, Completion]:
            if n in drawn:
                return await continue_through(self.engine, drawn[n], settings.cuts[1:], settings, seed, decode)
            trace = earlier[problem.id, n]
            kept = trace, Completion((), "", trace.finish_reason)
            return await continue_through(self.engine, kept, settings.cuts[passed:], settings, seed, decode)

        return await all_or_none(one(n) for n in numbers)

    async def _to_quotas(self, prompts: list[Prompt]) -> Sampled:
        """The traces that the quotas keep; engine time spent on surplus requests is counted as well."""
        assert self.settings.stopping
        policy, ahead = self.policy.fingerprint, self.job.place.ahead
        searches = [
            Search(self.engine, problem, ids, self.settings, self.job.seed, policy, self.judge, ahead)
            for problem, ids in prompts
        ]
        samples = self.settings.samples
        await sample_to_quotas(searches, samples, self.settings.stopping.most or samples)
        kept = [verdict for search in searches for _, _, verdict in search.kept]
        counts = {
            "skipped_prompts": float(sum(search.too_long for search in searches)),
            "correct": float(sum(v.correct for v in kept)),
            "quotas_unmet": float(sum(not search.tally.met and not search.too_long for search in searches)),
            "surplus": float(sum(search.surplus for search in searches)),
            "surplus_seconds": sum(s.surplus_seconds for s in searches) + self.engine.meter.take_aborted(),
        }
        return [(trace, done) for search in searches for trace, done, _ in search.kept], counts


def judge_beside(verifier: Verifier) -> Judge:
    """What gives a trace's verdict while the loop that feeds the engine goes on."""

    async def judge(problem: Problem, trace: Trace) -> Verdict:
        [found] = await verdicts(verifier, [problem], [trace.text], [trace.finish_reason])
        return found

    return judge


def engine_counts(traces: list[Trace], completions: list[Completion]) -> dict[str, float]:
    """What traces cost, for a shard's counts: tokens read and written, and seconds of engine time."""
    return {
        "traces": float(len(traces)),
        "prompt_tokens": float(sum(len(t.prompt_token_ids) for t in traces)),
        "tokens": float(sum(len(t.token_ids) for t in traces)),
        "truncated": float(sum(t.finish_reason == "length" for t in traces)),
        "engine_seconds": sum(c.seconds for c in completions),
    }


def pool(recipe: Recipe, role: EngineRole = "sampling") -> Pool:
    """Engine actors of a role for `map_shards`."""
    place = recipe.placement.engines(role)
    return Pool.of(place, recipe.placement.named(role), place.gpus, place.concurrent_shards)


def policy_of(context: StageContext) -> Policy:
    """The weights a stage asks: of a training stage in the role `policy`, or of the model its option names."""
    model = context.stage.options["policy"]
    return base_policy(model) if model else trained_policy(context.inputs["policy"])


@dataclass(frozen=True)
class Inputs:
    """What the stage reads, beside the policy."""

    problems: Output


def work(recipe: Recipe, policy: Policy) -> tuple[EngineJob, SamplingSettings]:
    """What of a recipe a SamplingWorker is given."""
    assert recipe.sampling
    return engine_job(recipe, policy), recipe.sampling


def run(context: StageContext, worker: type[SamplingWorker] = SamplingWorker) -> None:
    """Sample every shard of training problems that has no traces yet."""
    given = context.given(Inputs)
    job, settings = work(context.recipe, policy_of(context))
    check_references(given.problems, "train", context.recipe.verification, context.stage.name)
    shards = Problems(given.problems, "train").shards(settings.problems_per_shard)
    arguments = (job, settings, given.problems, context.output, take_over(context))
    run_shards(context, worker, arguments, shards, pool(context.recipe))
    report(context)


def take_over(context: StageContext) -> Earlier | None:
    """The earlier run whose traces are used, said; or how the recipe could use shorter ones."""
    settings, say = context.recipe.sampling, context.progress.say
    assert settings
    found = finished_siblings(context)
    earlier = reusable(found, settings)
    if earlier:
        say(f"up to {min(earlier.samples, settings.samples)} traces a problem come from sampling/{earlier.output.key}")
    elif cuts := shorter_cuts(found, settings):
        say(f"drawn anew; sampling.continued_at: {cuts} would go on from traces of an earlier run that ended there")
    return earlier


def report(context: StageContext) -> None:
    """Say what was skipped and what was cut: neither may pass unseen."""
    counts = context.written.counts
    if skipped := counts.get("skipped_prompts"):
        context.progress.say(f"{skipped:,.0f} problems skipped: their prompts do not fit the context")
    if unmet := counts.get("quotas_unmet"):
        context.progress.say(
            f"{unmet:,.0f} problems ended their budget before the quotas of sampling.stopping were met"
        )
    if truncated := counts.get("truncated"):
        share = truncated / counts["traces"]
        context.progress.say(f"{truncated:,.0f} traces ({share:.1%}) cut at sampling.max_tokens or the context's end")
