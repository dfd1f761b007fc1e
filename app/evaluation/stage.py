"""Stages evaluation/METHOD: one policy answers the held-out problems, greedily and, where asked for, by draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.errors import UserError
from app.evaluation.settings import EvaluationSettings
from app.policy import Policy
from app.problems.select import Problems
from app.recipe import Recipe
from app.records import Problem, Trace, Verdict, seed_from, totals, trace_id
from app.sampling.engine import Completion, Request, fitting
from app.sampling.requests import trace_of
from app.sampling.stage import EngineJob, EngineWorker, engine_counts, engine_job, policy_of, pool
from app.shard_stats import Receipt
from app.shardmap import run_shards
from app.stage import StageContext
from app.store import Output
from app.verification.gate import check_references
from app.verification.verifier import Verifier, verifier_of
from app.verification.verifier import verdicts as verdicts_of

Answer = tuple[Trace, Completion]


@dataclass(frozen=True)
class Answered:
    """What a policy said to some problems: a completion and a verdict for each trace."""

    traces: list[Trace]
    completions: list[Completion]
    verdicts: list[Verdict]
    problems: int  # of the shard
    skipped: int  # problems whose prompts do not fit the context


class EvaluationWorker(EngineWorker):
    """Shard i = the i-th slice of the held-out problems: their traces (sample 0 greedy, 1.. drawn) and verdicts."""

    def __init__(self, job: EngineJob, settings: EvaluationSettings, problems: Output, output: Output) -> None:
        super().__init__(job)
        self.settings, self.output = settings, output
        self.verifier = verifier_of(job.verification)
        self.problems = Problems(problems, self.settings.split)

    async def process(self, index: int) -> Receipt:
        """Answer and judge the shard's problems; write verdicts, then traces, in the order of the problems."""
        found = await self.answer(index)
        counts = engine_counts(found.traces, found.completions)
        counts |= {"problems": float(found.problems), "skipped_prompts": float(found.skipped)}
        counts |= greedy_counts(found.traces, found.verdicts)
        self.output.write_shard(index, Verdict.table(found.verdicts), kind="verdicts")
        return self.output.write_shard(index, Trace.table(found.traces), counts)

    async def answer(self, index: int) -> Answered:
        """The policy's answers to the problems of a shard, judged. Prompts that leave no room are skipped."""
        problems = self.problems.shard(index, self.settings.problems_per_shard)
        prompts = [(problem, self.renderer.prompt_ids(problem.statement)) for problem in problems]
        pairs, skipped = await fitting(self._answer(problem, ids) for problem, ids in prompts)
        traces = [trace for trace, _ in pairs]
        verdicts = await judge(self.verifier, traces, problems)  # beside the engine, which runs on this event loop
        return Answered(traces, [done for _, done in pairs], verdicts, len(problems), skipped)

    async def _answer(self, problem: Problem, prompt: list[int]) -> list[Answer]:
        """A problem's answers, the greedy one first."""
        asked = [self._request(problem, prompt, sample) for sample in range(1 + self.settings.samples)]
        done = await self.engine.generate_n(asked)
        return [
            (trace_of(problem, sample, self.policy.fingerprint, request, completion), completion)
            for sample, (request, completion) in enumerate(zip(asked, done, strict=True))
        ]

    def _request(self, problem: Problem, prompt: list[int], sample: int) -> Request:
        name = trace_id(problem.id, sample, self.policy.fingerprint, "evaluation")
        temperature = self.settings.temperature if sample else 0.0
        return Request(name, tuple(prompt), seed_from(self.job.seed, name), self.settings.max_tokens, temperature)


async def judge(verifier: Verifier, traces: list[Trace], problems: list[Problem]) -> list[Verdict]:
    """A verdict of each trace, in order."""
    by_id = {problem.id: problem for problem in problems}
    asked = [by_id[trace.problem_id] for trace in traces]
    texts, endings = [t.text for t in traces], [t.finish_reason for t in traces]
    found = await verdicts_of(verifier, asked, texts, endings)
    return [replace(verdict, trace_id=trace.id) for verdict, trace in zip(found, traces, strict=True)]


def greedy_counts(traces: list[Trace], verdicts: list[Verdict]) -> dict[str, float]:
    """Outcomes of the greedy answers: correct_greedy, incorrect_greedy and so on, as far as they occur.

    And how many of them were cut (unfinished_greedy), or have a reference that cannot be read (bad_references).
    """
    said = [verdict for trace, verdict in zip(traces, verdicts, strict=True) if trace.sample == 0]
    reasons = {"unfinished": "unfinished_greedy", "bad-reference": "bad_references"}
    return (
        totals({f"{v.outcome}_greedy": 1.0} for v in said)
        | dict.fromkeys(reasons.values(), 0.0)
        | totals({reasons[v.reason]: 1.0} for v in said if v.reason in reasons)
    )


@dataclass(frozen=True)
class Inputs:
    """What the stage reads, beside the policy."""

    problems: Output


def work(recipe: Recipe, policy: Policy) -> tuple[EngineJob, EvaluationSettings]:
    """What of a recipe an EvaluationWorker is given."""
    return engine_job(recipe, policy, "evaluation"), recipe.evaluation


def run(context: StageContext, worker: type[EvaluationWorker] = EvaluationWorker) -> None:
    """Evaluate every shard that is not there yet, then say what came out."""
    problems, (job, settings) = context.given(Inputs).problems, work(context.recipe, policy_of(context))
    check_references(problems, settings.split, context.recipe.verification, context.stage.name)
    shards = Problems(problems, settings.split).shards(settings.problems_per_shard)
    arguments = (job, settings, problems, context.output)
    run_shards(context, worker, arguments, shards, pool(context.recipe, "evaluation"))
    _report(context)


def _report(context: StageContext) -> None:
    """One line of results; an error where nothing could be asked, a warning where something could not."""
    counts = context.written.counts
    asked, skipped = counts["problems"], counts["skipped_prompts"]
    if skipped == asked:
        raise UserError(
            f"{context.stage.name}: none of {asked:,.0f} problems fits the model's context; "
            f"raise {context.recipe.placement.named('evaluation')}.max_model_len"
        )
    if skipped:
        context.progress.say(f"{skipped:,.0f} of {asked:,.0f} problems skipped: their prompts do not fit the context")
    if counts["truncated"]:
        share = counts["truncated"] / counts["traces"]
        context.progress.say(f"{share:.1%} of answers cut at evaluation.max_tokens or the context's end")
    undecided = counts.get("timeout_greedy", 0) + counts.get("error_greedy", 0)
    if undecided:
        context.progress.say(f"{undecided:,.0f} greedy answers could not be judged; they count neither right nor wrong")
    context.progress.say(f"{counts.get('correct_greedy', 0):,.0f} of {asked - skipped:,.0f} problems right, greedily")
