"""Credit for the traces of one problem: which are looked at, what is found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from app.credit.adaptive import Trail, Until, adaptive
from app.credit.changepoint import Change
from app.credit.rollouts import ProblemRollouts, Sampler
from app.credit.rows import NO_PROGRESS, SHARP_DROP, evidence, rows
from app.credit.search import SEARCHES, Finding, known_values
from app.credit.settings import CreditSettings
from app.credit.steps import Step, split
from app.credit.values import SOLVED, Estimate, estimate
from app.judged import Judged, distinct, finished
from app.records import Problem, StepValue, Trace, Verdict
from app.tokens import TokenText

WRONG_SUM = 10.0  # how many times likelier the first step with a wrong sum is to be the pit


@dataclass
class Credit:
    """What the stage writes of one problem, or of a shard."""

    values: list[StepValue] = field(default_factory=list)
    rollouts: list[Trace] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, other: Credit) -> None:
        self.values += other.values
        self.rollouts += other.rollouts
        self.verdicts += other.verdicts
        for key, value in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + value


def distinct_traces(samples: Sequence[Judged], correct: bool, most: int) -> list[Trace]:
    """The first `most` finished right or wrong traces by sample number, no two with the same tokens."""
    return distinct(samples, correct, lambda trace: trace.sample)[:most]


async def credit_problem(
    problem: Problem,
    samples: Sequence[Judged],
    sampler: Sampler,
    texts: TokenText,
    settings: CreditSettings,
    samples_are_rollouts: bool,
    every: bool = False,
) -> Credit:
    """Values and first pits of a problem's wrong traces, and values of its right ones where the settings ask for them.

    A problem is skipped, and counted, where all its judged samples are right (nothing went wrong) or all are wrong (its
    value is about 0 before the first step, so there is no step at which it was lost).

    Args:
        samples: the problem's plain samples with their verdicts.
        samples_are_rollouts: they were drawn as rollouts are (app/credit/stage.py), so that they serve as the rollouts
            of step 0. Otherwise step 0 is rolled out afresh.
        every: skip no problem of which some trace is to be looked at.
    """
    wrong = distinct_traces(samples, correct=False, most=settings.traces_per_problem)
    right = distinct_traces(samples, correct=True, most=settings.correct_traces)
    if not wrong and not (every and right):
        return Credit(counts={"problems_without_wrong": 1})
    if not every and not finished(samples, correct=True):
        return Credit(counts={"problems_all_wrong": 1})
    looked = _Looked(
        ProblemRollouts(problem, [*wrong, *right][0].prompt_token_ids, [*wrong, *right], sampler),
        samples if samples_are_rollouts else [],
        settings,
    )
    cut = {t.id: split(t.token_ids, texts, settings.steps, settings.most_steps) for t in (*wrong, *right)}
    search = looked.together if settings.search == "adaptive" else looked.one_by_one
    found, solved = await asyncio.gather(
        search(wrong, [cut[trace.id] for trace in wrong]),
        asyncio.gather(*(looked.right(trace, cut[trace.id]) for trace in right)),
    )
    values = [
        row
        for traces, findings, ended_right in ((wrong, found, False), (right, solved, True))
        for trace, finding in zip(traces, findings, strict=True)
        for row in rows(trace, cut[trace.id], finding, settings.best_of, ended_right)
    ]
    pairs = looked.pool.all()
    return Credit(
        values=values,
        rollouts=[trace for trace, _ in pairs],
        verdicts=[verdict for _, verdict in pairs],
        counts=_cost(looked.pool, pairs) | _pit_counts(found, values) | _right_counts(len(right), values),
    )


@dataclass
class _Looked:
    """The searches of one problem over one pool of rollouts."""

    pool: ProblemRollouts
    known: Sequence[Judged]  # plain samples that serve as rollouts of step 0
    settings: CreditSettings

    async def one_by_one(self, traces: list[Trace], steps: list[list[Step]]) -> list[Finding]:
        """A search of its own for each trace, side by side; they share rollouts of equal prefixes."""
        search, start = SEARCHES[self.settings.search], estimate(self.known)
        findings = await asyncio.gather(
            *(
                search(len(mine), partial(self._take, trace, mine), self.settings.rollouts, start)
                for trace, mine in zip(traces, steps, strict=True)
            )
        )
        return [_believed(finding, len(mine)) for finding, mine in zip(findings, steps, strict=True)]

    async def together(self, traces: list[Trace], steps: list[list[Step]]) -> list[Finding]:
        """One adaptive search for all traces, which learns from all that was sampled of the problem."""
        known = self.known or await self.pool.take((), self.settings.rollouts)
        value = _value(estimate(known))
        trails = [
            Trail(
                trace.id,
                tuple(trace.token_ids),
                [0, *(step.end for step in mine)],
                Change(len(mine), value, evidence(mine, WRONG_SUM) if self.settings.sums else None),
            )
            for trace, mine in zip(traces, steps, strict=True)
        ]
        how = self.settings
        return await adaptive(trails, known, self.pool.take, Until(how.confidence, how.continuations, how.rollouts))

    async def right(self, trace: Trace, steps: list[Step]) -> Finding:
        """Values after every step of a right trace; what is odd about them rows.notes says."""
        inner = range(1, len(steps))
        start = estimate(self.known or await self.pool.take((), self.settings.rollouts))
        drawn = await asyncio.gather(*(self._take(trace, steps, step, self.settings.rollouts) for step in inner))
        found = dict(zip(inner, map(estimate, drawn), strict=True))
        return Finding(known_values({0: start, **found, len(steps): SOLVED}), None)

    async def _take(self, trace: Trace, steps: list[Step], step: int, k: int) -> list[Judged]:
        return await self.pool.take(tuple(trace.token_ids[: steps[step - 1].end if step else 0]), k)


def _value(start: Estimate) -> float:
    """V of a problem, away from 0 and 1 where few samples tell of it."""
    return (start.correct + 0.5) / (start.judged + 1)


def _believed(finding: Finding, steps: int) -> Finding:
    """How sure the rollouts of a search that keeps no belief make of each step."""
    change = Change(steps, _value(finding.values.get(0, Estimate())))
    for step, value in finding.values.items():
        if step < steps:
            change.add_all(step, value.correct, value.judged - value.correct)
    return replace(finding, posterior=tuple(change.posterior()), pit_by_rollouts=finding.first_pit)


def _cost(pool: ProblemRollouts, pairs: Sequence[Judged]) -> dict[str, float]:
    return {
        "problems": 1,
        "rollouts": len(pairs),
        "truncated": sum(trace.finish_reason != "stop" for trace, _ in pairs),
        "prefixes_too_long": pool.too_long,
        "prompt_tokens": sum(len(trace.prompt_token_ids) for trace, _ in pairs),
        "tokens": sum(len(trace.token_ids) for trace, _ in pairs),
        "engine_seconds": pool.engine_seconds,
    }


def _pit_counts(found: Sequence[Finding], values: Sequence[StepValue]) -> dict[str, float]:
    """Pits, and apart from them what the sums written in the steps had to do with it."""
    wrong = [row for row in values if not row.right]
    return {
        "traces": len(found),
        "pits": sum(finding.first_pit is not None for finding in found),
        "pits_by_rollouts": sum(finding.pit_by_rollouts is not None for finding in found),
        "pits_moved_by_sums": sum(
            finding.pit_by_rollouts is not None and finding.pit_by_rollouts != finding.first_pit for finding in found
        ),
        "pits_at_wrong_sum": sum(row.first_pit and row.wrong_sums > 0 for row in wrong),
        "wrong_sum_traces": len({row.trace_id for row in wrong if row.wrong_sums}),
    }


def _right_counts(traces: int, values: Sequence[StepValue]) -> dict[str, float]:
    """What is odd about right traces; nothing where none was looked at."""
    if not traces:
        return {}
    right = [row for row in values if row.right]
    return {
        "right_traces": traces,
        "right_steps": sum(row.step > 0 for row in right),
        "no_progress_steps": sum(row.note == NO_PROGRESS for row in right),
        "lucky_wrong": len({row.trace_id for row in right if row.note == SHARP_DROP}),
        "right_wrong_sum_traces": len({row.trace_id for row in right if row.wrong_sums}),
    }
