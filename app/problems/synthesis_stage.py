"""Stage synthesis: a capable model writes new problems from seeds, and only those one can trust are kept.

In waves: attempts (app/problems/writing.py), solve rates of what they gave where the recipe asks for them, then the
filter, in order of the attempts, until `count` are kept or the budget is spent (app/problems/refill.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from app.errors import UserError
from app.problems.certificate import FILE as CERTIFICATE
from app.problems.certificate import Decontamination
from app.problems.filtering import Filter, index_of
from app.problems.rates import Rate, histogram, outside
from app.problems.refill import Spent, next_shards
from app.problems.select import Problems, write_problems
from app.problems.settings import OpenAIWriter, SynthesisSettings
from app.problems.strategies import CONCEPTS as NEEDS_CONCEPTS
from app.problems.strategies import FAIL_RATES, needs
from app.problems.workers import (
    CANDIDATES,
    CONCEPTS,
    RATES,
    SEED_RATES,
    SEEDS_PER_SHARD,
    ConceptWorker,
    RatingWorker,
    WritingWorker,
)
from app.problems.writers import from_world
from app.problems.writing import WRITTEN, Attempt
from app.recipe import Recipe
from app.records import Problem
from app.shardmap import Pool, complete
from app.stage import StageContext
from app.store import Output

YIELD = "yield.json"  # of attempts, by strategy and by what became of them
KEPT, SURPLUS = "kept", "not needed: count was reached"


@dataclass
class Ledger:
    """What became of all attempts so far."""

    settings: SynthesisSettings
    evaluation: Decontamination
    filter: Filter
    spent: Spent = field(default_factory=Spent)
    kept: set[int] = field(default_factory=set)  # numbers of attempts
    ends: dict[str, Counter[str]] = field(default_factory=dict)  # by strategy
    solved: list[float] = field(default_factory=list)  # solve rates of problems that passed the filter

    def take(self, attempts: list[Attempt], rates: dict[str, Rate]) -> None:
        """Count a shard of attempts in; shards must come in order."""
        for attempt in attempts:
            self.spent.attempts += 1
            self.spent.requests += attempt.requests
            self.spent.tokens += attempt.read + attempt.written
            end = self._end(attempt, rates)
            self.ends.setdefault(attempt.strategy, Counter())[end] += 1
            if end == KEPT:
                self.kept.add(attempt.number)
                self.spent.kept += 1

    def _end(self, attempt: Attempt, rates: dict[str, Rate]) -> str:
        if attempt.outcome != WRITTEN:
            return attempt.outcome
        if self.spent.kept >= self.settings.count:
            return SURPLUS
        problem = attempt.problem()
        if refusal := self.refusal(problem):
            return refusal
        if self.settings.difficulty is None:
            return KEPT
        rate = rates[problem.id]
        if rate.solved is not None:
            self.solved.append(rate.solved)
        return outside(rate, self.settings.difficulty.keep) or KEPT

    def refusal(self, problem: Problem) -> str | None:
        """Why a problem is not kept: it repeats an evaluation problem, a seed or an earlier one."""
        return self.evaluation.refusal(problem) or self.filter.refusal(problem)

    @property
    def reasons(self) -> Counter[str]:
        """Ends of all strategies together, those that were kept left out."""
        total = sum(self.ends.values(), Counter[str]())
        del total[KEPT]
        return total

    def story(self) -> dict[str, Any]:
        """What yield.json holds."""
        kept, spent = max(self.spent.kept, 1), self.spent
        found: dict[str, Any] = {"by_strategy": {name: dict(ends) for name, ends in sorted(self.ends.items())}}
        found |= {"wanted": self.settings.count, "kept": spent.kept, "attempts": spent.attempts}
        found |= {"requests": spent.requests, "tokens": spent.tokens}
        found |= {"requests_a_kept_problem": spent.requests / kept, "tokens_a_kept_problem": spent.tokens / kept}
        return found | ({"solve_rates": histogram(self.solved)} if self.settings.difficulty else {})


def run(context: StageContext) -> None:
    """Attempt and filter until enough are kept, then write them as shard 0."""
    settings = context.recipe.synthesis
    assert settings
    source = context.inputs["problems"]
    seeds = Problem.from_table(source.read())
    train = sorted((p for p in seeds if p.split == "train"), key=lambda p: p.id)
    evaluation = Decontamination(settings, (p for p in seeds if p.split != "train"))
    ledger = Ledger(settings, evaluation, Filter(train, index_of(settings)))
    if settings.writer.kind == "world":
        made = _from_world(context.recipe, settings)
        kept: Iterator[Problem] = iter([p for p in made if _world_end(ledger, p) == KEPT])
    else:
        _attempt(context, settings, ledger)
        kept = _kept(context.output, ledger.kept)
    if settings.keep_seeds:
        kept = chain(_clean(context, evaluation, train), kept)
    _tell(context, ledger)
    context.output.write_json(YIELD, ledger.story())
    write_problems(context.output, evaluation.counted(kept), _counts(ledger))
    context.output.write_json(CERTIFICATE, evaluation.certificate())


def _clean(context: StageContext, evaluation: Decontamination, seeds: list[Problem]) -> list[Problem]:
    """Seeds with a solution that repeat no evaluation problem."""
    solved = [seed for seed in seeds if seed.solution]
    clean = [seed for seed in solved if not evaluation.refusal(seed)]
    if len(clean) < len(solved):
        context.progress.say(f"{len(solved) - len(clean):,} seeds left out: they repeat evaluation problems")
    return clean


def _from_world(recipe: Recipe, settings: SynthesisSettings) -> list[Problem]:
    source = recipe.problems.source
    if source.kind != "world" or settings.writer.kind != "world":
        raise UserError("synthesis.writer.kind is world, but the problems are not the world's; use vllm or openai")
    return from_world(source, settings.writer, settings.count, recipe.seed)


def _world_end(ledger: Ledger, problem: Problem) -> str:
    """The world is right by construction: its problems are compared with others, and no more."""
    end = ledger.refusal(problem) or KEPT
    ledger.ends.setdefault("world", Counter())[end] += 1
    ledger.spent.attempts += 1
    ledger.spent.kept += end == KEPT
    return end


def _attempt(context: StageContext, settings: SynthesisSettings, ledger: Ledger) -> None:
    """Waves of attempts until the ledger has enough. What earlier sessions wrote is counted in, not made again."""
    _prepare(context, settings)
    done = 0
    while True:
        more, why = next_shards(settings, ledger.spent)
        if not more:
            if why:
                context.progress.say(f"{why} with {ledger.spent.kept:,} of {settings.count:,} problems")
            return
        _complete(context, WritingWorker, done + more, CANDIDATES)
        if settings.difficulty:
            _complete(context, RatingWorker, done + more, RATES)
        for index in range(done, done + more):
            ledger.take(*_shard(context.output, index, bool(settings.difficulty)))
        done += more


def _prepare(context: StageContext, settings: SynthesisSettings) -> None:
    """What strategies need beside the seeds."""
    needed = needs(settings.strategies)
    shards = Problems(context.inputs["problems"], "train").shards(SEEDS_PER_SHARD)
    if NEEDS_CONCEPTS in needed:
        _complete(context, ConceptWorker, shards, CONCEPTS)
    if FAIL_RATES in needed:
        _complete(context, RatingWorker, shards, SEED_RATES)


def _complete(context: StageContext, worker: type, shards: int, kind: str) -> None:
    recipe = context.recipe
    assert recipe.synthesis
    role = "sampling" if worker is RatingWorker else "writer"
    place = recipe.placement.engines(role)  # type: ignore[arg-type]
    pool = Pool.of(place, recipe.placement.named(role), place.gpus, place.concurrent_shards)  # type: ignore[arg-type]
    if role == "writer" and isinstance(recipe.synthesis.writer, OpenAIWriter):
        pool = Pool(1, 0, concurrency=place.concurrent_shards)
    arguments: tuple[Any, ...] = (recipe, context.inputs["problems"], context.output)
    complete(context, worker, (*arguments, kind) if worker is RatingWorker else arguments, shards, pool, kind)


def _shard(output: Output, index: int, rated: bool) -> tuple[list[Attempt], dict[str, Rate]]:
    rates = Rate.from_table(output.read_shard(index, kind=RATES)) if rated else []
    return Attempt.from_table(output.read_shard(index, kind=CANDIDATES)), {rate.problem_id: rate for rate in rates}


def _kept(output: Output, numbers: set[int]) -> Iterator[Problem]:
    """The problems of some attempts, a shard at a time."""
    for table in output.tables(kind=CANDIDATES):
        for attempt in Attempt.from_table(table):
            if attempt.number in numbers:
                yield attempt.problem()


def _counts(ledger: Ledger) -> dict[str, float]:
    spent = ledger.spent
    counts = {"attempts": spent.attempts, "requests": spent.requests, "tokens": spent.tokens, "problems": spent.kept}
    return {name: float(n) for name, n in counts.items()} | {f"dropped: {r}": float(n) for r, n in _reasons(ledger)}


def _reasons(ledger: Ledger) -> list[tuple[str, int]]:
    return ledger.reasons.most_common()


def _tell(context: StageContext, ledger: Ledger) -> None:
    for reason, count in _reasons(ledger):
        context.progress.say(f"{count:,} dropped: {reason}")
