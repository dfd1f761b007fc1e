"""Shard workers of stage synthesis: ideas of seeds, attempts at new problems, solve rates of problems."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from app.errors import UserError
from app.policy import Policy, base_policy
from app.problems.asking import Answer, Ask
from app.problems.concepts import Concepts, concepts_prompt, read_concepts
from app.problems.kinds import all_numbers
from app.problems.overlap import statement_digest
from app.problems.rates import Rate, rates_of
from app.problems.refill import shard_size
from app.problems.select import Problems, problems_of
from app.problems.settings import OpenAIWriter, VllmWriter
from app.problems.strategies import Material, cumulated
from app.problems.writers import EndpointModel, VllmModel
from app.problems.writing import WRITTEN, Attempt, Writing
from app.recipe import Recipe
from app.records import Problem, seed_from
from app.sampling.engine import all_or_none, fitting
from app.sampling.requests import sample_n
from app.sampling.settings import SamplingSettings
from app.sampling.stage import EngineWorker, engine_job
from app.shard_stats import Receipt
from app.store import Output
from app.verification.verifier import verdicts, verifier_of

CANDIDATES, CONCEPTS = "candidates", "concepts"  # kinds of the tables that hold attempts, and ideas of seeds
RATES, SEED_RATES = "rates", "seed_rates"  # solve rates of written problems, and of seeds
SEEDS_PER_SHARD = 32
CONCEPT_SCHEMA = pa.schema([("concepts", pa.list_(pa.string()))])


def writer_of(recipe: Recipe) -> Answer:
    """Who answers. Raises UserError where the recipe's writer is nothing that can be asked."""
    assert recipe.synthesis
    writer = recipe.synthesis.writer
    if isinstance(writer, VllmWriter):
        return VllmModel(recipe, writer).answer
    if isinstance(writer, OpenAIWriter):
        return EndpointModel(writer).answer
    raise UserError(f"synthesis.writer.kind is {writer.kind}: nothing to ask; use vllm or openai")


def ending_of(recipe: Recipe) -> str:
    """How solutions mark their answer: as the policy's prompt asks, else as the source's own solutions do."""
    asked = f"{recipe.rendering.system or ''}\n{recipe.rendering.prompt}"
    if "\\boxed" in asked or "####" in asked:
        return "boxed" if "\\boxed" in asked else "hash"
    return "hash" if getattr(recipe.problems.source, "answer_format", "gsm8k") == "gsm8k" else "boxed"


class ConceptWorker:
    """Asks for the ideas of a shard of seeds."""

    def __init__(self, recipe: Recipe, problems: Output, output: Output) -> None:
        assert recipe.synthesis
        self.settings, self.seed, self.output = recipe.synthesis, recipe.seed, output
        self.seeds, self.answer = Problems(problems, "train"), writer_of(recipe)

    async def process(self, index: int) -> Receipt:
        found = await all_or_none(self._ideas(seed) for seed in self.seeds.shard(index, SEEDS_PER_SHARD))
        table = pa.table({"concepts": found}, schema=CONCEPT_SCHEMA)
        return self.output.write_shard(index, table, {"concept requests": len(found)}, kind=CONCEPTS)

    async def _ideas(self, seed: Problem) -> tuple[str, ...]:
        text, number = concepts_prompt(seed.statement), seed_from(self.seed, "concepts", seed.id)
        reply = await self.answer(Ask(f"concepts-{seed.id}", text, number, 0.0, self.settings.max_tokens))
        return () if reply is None or reply.cut else read_concepts(reply.text)


class WritingWorker:
    """Makes one shard of attempts at a time and writes what became of each."""

    def __init__(self, recipe: Recipe, problems: Output, output: Output) -> None:
        assert recipe.synthesis
        self.settings, self.output = recipe.synthesis, output
        seeds = problems_of(problems, "train")
        numeric = all_numbers(seed.answer for seed in seeds)
        kind = "a number" if numeric else "a number or a short expression that can be checked"
        material = Material(seeds, self.settings.seeds_per_prompt, kind, ideas(output), failing(output))
        known = frozenset(statement_digest(text) for text in problems.read(["statement"])["statement"].to_pylist())
        same = verifier_of(recipe.verification).equivalent
        asked = (self.settings, recipe.seed, ending_of(recipe), numeric, known, same)
        self.writing = Writing(writer_of(recipe), material, *asked)

    async def process(self, index: int) -> Receipt:
        size = shard_size(self.settings)
        attempts = await all_or_none(self.writing.attempt(number) for number in range(index * size, (index + 1) * size))
        return self.output.write_shard(index, Attempt.table(attempts), bill(attempts), kind=CANDIDATES)


def bill(attempts: Sequence[Attempt]) -> dict[str, float]:
    """What a shard of attempts took."""
    return {
        "attempts": float(len(attempts)),
        "requests": float(sum(a.requests for a in attempts)),
        "prompt_tokens": float(sum(a.read for a in attempts)),
        "tokens": float(sum(a.written for a in attempts)),
    }


class RatingWorker(EngineWorker):
    """Lets the policy try problems: written ones (RATES, shard by shard as they were written) or seeds (SEED_RATES)."""

    def __init__(self, recipe: Recipe, problems: Output, output: Output, kind: str) -> None:
        super().__init__(engine_job(recipe, rated_policy(recipe)))
        assert recipe.synthesis and recipe.synthesis.difficulty
        asked = recipe.synthesis.difficulty
        self.settings = SamplingSettings(
            samples=asked.rollouts, temperature=asked.temperature, max_tokens=asked.max_tokens
        )
        self.problems, self.output, self.kind = problems, output, kind
        self.verifier = verifier_of(recipe.verification)

    async def process(self, index: int) -> Receipt:
        by_id = {problem.id: problem for problem in self._problems(index)}
        asked = (self.settings, self.job.seed, self.policy.fingerprint)
        drawn, _ = await fitting(
            sample_n(self.engine, problem, self.renderer.prompt_ids(problem.statement), *asked)
            for problem in by_id.values()
        )
        traces = [trace for trace, _ in drawn]
        texts, endings = [t.text for t in traces], [t.finish_reason for t in traces]
        found = await verdicts(self.verifier, [by_id[t.problem_id] for t in traces], texts, endings)
        counts = {"rollouts": float(len(traces)), "rollout_tokens": float(sum(len(t.token_ids) for t in traces))}
        rates = rates_of(list(by_id.values()), traces, found)
        return self.output.write_shard(index, Rate.table(rates), counts, kind=self.kind)

    def _problems(self, index: int) -> list[Problem]:
        if self.kind == SEED_RATES:
            return Problems(self.problems, "train").shard(index, SEEDS_PER_SHARD)
        attempts = Attempt.from_table(self.output.read_shard(index, kind=CANDIDATES))
        return [attempt.problem() for attempt in attempts if attempt.outcome == WRITTEN]


def rated_policy(recipe: Recipe) -> Policy:
    """The policy whose solve rates are asked for."""
    assert recipe.synthesis and recipe.synthesis.difficulty
    name = recipe.synthesis.difficulty.policy
    return base_policy(recipe.model if name == "base" else recipe.models[name])


def ideas(output: Output) -> Concepts:
    """Ideas of the seeds, as far as they were asked for."""
    return Concepts(row for table in output.tables(kind=CONCEPTS) for row in table["concepts"].to_pylist())


def failing(output: Output) -> list[float]:
    """Running sums of the policy's fail rates over the seeds, in order of id; empty where they were not asked for."""
    rates = [rate for table in output.tables(kind=SEED_RATES) for rate in Rate.from_table(table)]
    return cumulated([0.0 if rate.solved is None else 1 - rate.solved for rate in rates])
