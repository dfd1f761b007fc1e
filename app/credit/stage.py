"""Stage credit: step values and first pits of wrong traces, from engine actors. One shard for each sampling shard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.credit.problem import Credit, credit_problem
from app.credit.rollouts import Judge, Sampler
from app.credit.settings import CreditSettings
from app.judged import Judged, judged_shard
from app.policy import Policy
from app.problems.select import Problems
from app.recipe import Recipe
from app.records import Problem, StepValue, Trace, Verdict
from app.sampling.settings import SamplingSettings
from app.sampling.stage import EngineJob, EngineWorker, engine_job, policy_of, pool
from app.shard_stats import Receipt
from app.shardmap import run_shards
from app.stage import StageContext
from app.store import Output
from app.tokens import TokenText
from app.verification.gate import check_references
from app.verification.verifier import Verifier, verdicts, verifier_of


@dataclass(frozen=True)
class Inputs:
    """What the stage reads, beside the policy."""

    problems: Output
    sampling: Output
    verification: Output


class CreditWorker(EngineWorker):
    """Searches the traces of a sampling shard all at once: the engine stays full although each search waits."""

    def __init__(self, job: EngineJob, settings: CreditSettings, alike: bool, given: Inputs, output: Output) -> None:
        super().__init__(job)
        self.settings, self.alike, self.given, self.output = settings, alike, given, output
        self.problems = Problems(given.problems, "train")
        self.texts = TokenText(self.renderer.decode)
        self.sampler = Sampler(
            engine=self.engine,
            policy=self.policy.fingerprint,
            judge=judge_texts(verifier_of(job.verification)),
            decode=self.renderer.decode,
            temperature=self.settings.temperature,
            max_tokens=self.settings.max_tokens,
            seed=job.seed,
        )

    async def process(self, index: int) -> Receipt:
        """Credit for the problems of shard `index`; the rows follow the problems' order."""
        shard, samples = Credit(), judged_shard(self.given.sampling, self.given.verification, index)
        problems = self.problems.named(samples)
        for credit in await asyncio.gather(*(self._problem(problems[name], samples[name]) for name in samples)):
            shard.add(credit)
        self.output.write_shard(index, Trace.table(shard.rollouts), kind="rollouts")
        self.output.write_shard(index, Verdict.table(shard.verdicts), kind="verdicts")
        return self.output.write_shard(index, StepValue.table(shard.values), shard.counts)

    async def _problem(self, problem: Problem, samples: list[Judged]) -> Credit:
        return await credit_problem(problem, samples, self.sampler, self.texts, self.settings, self.alike)


def samples_are_rollouts(sampling: SamplingSettings, credit: CreditSettings) -> bool:
    """Whether plain samples may serve as rollouts of step 0: as many were drawn, the same way, whatever came out.

    Under quotas they may not. A search that stops at its first right trace calls that one of n, and the mean of 1/n is
    too high: .26 where a trace is right with chance .1.
    """
    return sampling.stopping is None and sampling.temperature == credit.temperature and not sampling.truncated


def judge_texts(verifier: Verifier) -> Judge:
    """What gives verdicts of solutions of one problem: their texts, and how they ended."""

    async def judge(problem: Problem, texts: list[str], endings: list[str]) -> list[Verdict]:
        return await verdicts(verifier, [problem] * len(texts), texts, endings)

    return judge


def work(recipe: Recipe, policy: Policy) -> tuple[EngineJob, CreditSettings, bool]:
    """What of a recipe a CreditWorker is given."""
    assert recipe.credit and recipe.sampling
    return engine_job(recipe, policy), recipe.credit, samples_are_rollouts(recipe.sampling, recipe.credit)


def run(context: StageContext, worker: type[CreditWorker] = CreditWorker) -> None:
    """Credit for every sampling shard that has none yet."""
    recipe, given = context.recipe, context.given(Inputs)
    check_references(given.problems, "train", recipe.verification, context.stage.name)
    arguments = (*work(recipe, policy_of(context)), given, context.output)
    run_shards(context, worker, arguments, len(given.sampling.done_shards()), pool(recipe))
    report(context)


def report(context: StageContext) -> None:
    """Say what was left out: neither rollouts without an end nor skipped problems may pass unseen."""
    counts = context.written.counts
    if skipped := counts.get("problems_all_wrong"):
        context.progress.say(f"{skipped:,.0f} problems left out: no sample is right, so there was no value to lose")
    if long := counts.get("prefixes_too_long"):
        context.progress.say(f"{long:,.0f} prefixes not rolled out: no room in the context")
    if truncated := counts.get("truncated"):
        share = truncated / counts["rollouts"]
        context.progress.say(f"{truncated:,.0f} rollouts ({share:.1%}) cut at credit.max_tokens; they say nothing")
    if lucky := counts.get("lucky_wrong"):
        right = counts["right_traces"]
        context.progress.say(
            f"{lucky:,.0f} of {right:,.0f} right traces lost their value at a step and ended right still"
        )
