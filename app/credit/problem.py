"""Credit for the traces of one problem: which are looked at, what is found, as rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from app.credit.adaptive import Trail, adaptive
from app.credit.change import Change
from app.credit.rollouts import ProblemRollouts, Sampler
from app.credit.search import SEARCHES, Finding
from app.credit.settings import CreditSettings
from app.credit.steps import Step, split
from app.credit.values import advantages, estimate
from app.records import Problem, StepValue, Trace, Verdict
from app.tokens import TokenText

Judged = tuple[Trace, Verdict]


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


def finished(samples: Sequence[Judged], correct: bool) -> list[Judged]:
    """Samples that came to their own end and were judged right (or wrong: no readable answer is a wrong one too)."""
    return [(t, v) for t, v in samples if t.finish_reason == "stop" and v.judged and v.correct == correct]


def wrong_traces(samples: Sequence[Judged], most: int) -> list[Trace]:
    """The first `most` wrong traces by sample number, no two with the same tokens."""
    distinct: dict[tuple[int, ...], Trace] = {}
    for trace, _ in sorted(finished(samples, correct=False), key=lambda pair: pair[0].sample):
        distinct.setdefault(tuple(trace.token_ids), trace)
    return [trace for trace in distinct.values() if trace.token_ids][:most]


async def credit_problem(
    problem: Problem,
    samples: Sequence[Judged],
    sampler: Sampler,
    texts: TokenText,
    settings: CreditSettings,
    samples_are_rollouts: bool,
) -> Credit:
    """Values and first pits of a problem's wrong traces.

    A problem is skipped, and counted, where all its judged samples are right (nothing went wrong) or all are wrong (its
    value is about 0 before the first step, so there is no step at which it was lost).

    Args:
        samples: the problem's plain samples with their verdicts.
        samples_are_rollouts: they were drawn as rollouts are (same policy and temperature), so that they serve as the
            rollouts of step 0.
    """
    wrong, right = finished(samples, correct=False), finished(samples, correct=True)
    if not wrong:
        return Credit(counts={"problems_without_wrong": 1})
    if not right:
        return Credit(counts={"problems_all_wrong": 1})
    traces = wrong_traces(samples, settings.traces_per_problem)
    if not traces:
        return Credit(counts={"problems_without_wrong": 1})
    pool = ProblemRollouts(problem, traces[0].prompt_token_ids, traces, sampler)
    steps = [split(trace.token_ids, texts, settings.steps, settings.most_steps) for trace in traces]
    known = samples if samples_are_rollouts else []
    look = _together if settings.search == "adaptive" else _one_by_one
    findings = await look(traces, steps, known, pool, settings)
    pairs = pool.all()
    return Credit(
        values=[row for found in zip(traces, steps, findings, strict=True) for row in rows(*found)],
        rollouts=[trace for trace, _ in pairs],
        verdicts=[verdict for _, verdict in pairs],
        counts={
            "problems": 1,
            "traces": len(traces),
            "pits": sum(finding.first_pit is not None for finding in findings),
            "rollouts": len(pairs),
            "truncated": sum(trace.finish_reason != "stop" for trace, _ in pairs),
            "prefixes_too_long": pool.too_long,
            "prompt_tokens": sum(len(trace.prompt_token_ids) for trace, _ in pairs),
            "tokens": sum(len(trace.token_ids) for trace, _ in pairs),
            "engine_seconds": pool.engine_seconds,
        },
    )


async def _one_by_one(
    traces: list[Trace],
    steps: list[list[Step]],
    known: Sequence[Judged],
    pool: ProblemRollouts,
    settings: CreditSettings,
) -> list[Finding]:
    """A search of its own for each trace, side by side; they share rollouts of equal prefixes."""
    search = SEARCHES[settings.search]

    async def take(trace: Trace, mine: list[Step], step: int, k: int) -> list[Judged]:
        return await pool.take(tuple(trace.token_ids[: mine[step - 1].end if step else 0]), k)

    searches = (
        search(len(mine), partial(take, trace, mine), settings.rollouts, estimate(known))
        for trace, mine in zip(traces, steps, strict=True)
    )
    return list(await asyncio.gather(*searches))


async def _together(
    traces: list[Trace],
    steps: list[list[Step]],
    known: Sequence[Judged],
    pool: ProblemRollouts,
    settings: CreditSettings,
) -> list[Finding]:
    """One adaptive search for all traces, which learns from all that was sampled of the problem."""
    known = known or await pool.take((), settings.rollouts)
    start = estimate(known)
    value = (start.correct + 0.5) / (start.judged + 1)
    trails = [
        Trail(trace.id, tuple(trace.token_ids), [0, *(step.end for step in mine)], Change(len(mine), value))
        for trace, mine in zip(traces, steps, strict=True)
    ]
    return await adaptive(trails, known, pool.take, settings.confidence, settings.rollouts)


def rows(trace: Trace, steps: Sequence[Step], finding: Finding) -> list[StepValue]:
    """One row for each prefix of which something is known; row 0 is the bare problem."""
    gains = advantages({step: value.correct / value.judged for step, value in finding.values.items()})
    out = []
    for step, value in finding.values.items():
        here = steps[step - 1] if step else Step(0, 0, "")
        low, high = value.interval
        out.append(
            StepValue(
                trace_id=trace.id,
                problem_id=trace.problem_id,
                step=step,
                start=here.start,
                end=here.end,
                text=here.text,
                correct=value.correct,
                judged=value.judged,
                q=value.q,
                low=low,
                high=high,
                advantage=gains.get(step),
                first_pit=step == finding.first_pit,
            )
        )
    return out
