"""Solve rates: how many of a policy's rollouts on a problem are right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from app.records import Problem, Record, Trace, Verdict

TOO_EASY, TOO_HARD, NOT_RATED = "too easy for the policy", "too hard for the policy", "no rollout could be judged"
BINS = 10


@dataclass(frozen=True, slots=True)
class Rate(Record):
    """Rollouts of one problem that were right, and that were judged at all."""

    problem_id: str
    right: int
    judged: int

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("right", pa.int32(), nullable=False),
            pa.field("judged", pa.int32(), nullable=False),
        ]
    )

    @property
    def solved(self) -> float | None:
        """The share that was right; None where nothing was judged."""
        return self.right / self.judged if self.judged else None


def rates_of(problems: Sequence[Problem], traces: Sequence[Trace], verdicts: Sequence[Verdict]) -> list[Rate]:
    """Rates of problems, in their order, from traces and their verdicts."""
    right = dict.fromkeys((p.id for p in problems), 0)
    judged = dict(right)
    for trace, verdict in zip(traces, verdicts, strict=True):
        if verdict.judged:
            judged[trace.problem_id] += 1
            right[trace.problem_id] += verdict.correct
    return [Rate(name, right[name], judged[name]) for name in right]


def outside(rate: Rate, band: tuple[float, float] | None) -> str | None:
    """Why a problem is not kept; None where it is in the band, or there is none."""
    if band is None:
        return None
    if rate.solved is None:
        return NOT_RATED
    return TOO_HARD if rate.solved < band[0] else TOO_EASY if rate.solved > band[1] else None


def histogram(rates: Iterable[float]) -> list[int]:
    """Problems by solve rate: BINS equal bins of [0, 1], the last one closed."""
    bins = [0] * BINS
    for rate in rates:
        bins[min(int(rate * BINS + 1e-9), BINS - 1)] += 1
    return bins
